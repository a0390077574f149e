"""Answer-constrained rollouts: after ``<answer>`` only an identifier of a real item, then ``</answer>``.

``actor_rollout_ref.rollout.custom.answers`` names the item index (the recipe ``gream/constrained`` does). Tokens
before the answer, and responses of direct mode, which have no ``<answer>``, stay free.

The log-probs that such a rollout reports are those of the model without the constraint, as the actor computes them:
ratios of eq. 22 start at 1, and the policy that is trained is the model itself. Where verl would take them for the
probabilities with which the tokens were drawn (its rollout correction) the option is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gream_ext.errors import GreamError

if TYPE_CHECKING:
    from gream_ext.decoding.processors import AnswerProcessor

KEY = "actor_rollout_ref.rollout.custom.answers"


def item_index(rollout: Any) -> Path | None:
    """The item index that answers are kept to, of verl's rollout configuration; None when they are free."""
    custom = rollout.get("custom") or {}
    path = custom.get("answers") if hasattr(custom, "get") else None
    if path is not None and (not isinstance(path, str) or not path):
        raise GreamError(f"{KEY} must be the path of an item index, not {path!r}")
    return None if path is None else Path(path).expanduser()


def check(rollout: Any, correction: Mapping[str, Any] | None) -> None:
    """Raise `GreamError` where answers cannot be kept to items with log-probs that are the trainer's.

    ``rollout`` is verl's ``actor_rollout_ref.rollout``, ``correction`` its ``algorithm.rollout_correction``.
    """
    path = item_index(rollout)
    if path is None:
        return
    if rollout.name != "transformers":
        raise GreamError(
            f"{KEY} works with the rollout transformers (the recipe cpu), not with {rollout.name}: the log-probs that "
            "SGLang gives of constrained tokens are not the trainer's: leave the recipe constrained out"
        )
    for name in ("rollout_is", "rollout_rs"):
        if (correction or {}).get(name):
            raise GreamError(
                f"algorithm.rollout_correction.{name} and {KEY} contradict each other: the log-probs of constrained "
                "answers are the model's, not those with which they were drawn: leave one of the two out"
            )
    if not path.exists():
        raise GreamError(f"{path} is missing ({KEY}): run `gream index build`, or set workspace=FOLDER")


def processor(rollout: Any, tokenizer: Any) -> "AnswerProcessor | None":
    """The logits processor that keeps answers to the items, or None when they are free."""
    path = item_index(rollout)
    if path is None:
        return None
    from gream_ext.decoding.processors import AnswerProcessor
    from gream_ext.decoding.trie import ItemTrie
    from gream_ext.items.index import ItemIndex

    return AnswerProcessor.for_tokenizer(ItemTrie.from_index(ItemIndex.load(path), tokenizer), tokenizer)
