"""The residual-sensitive verifiable reward (section 5.1, eqs 13–14), and Verl's ``compute_score``.

Use it in any Verl project with::

    reward.custom_reward_function.path=pkg://gream_ext.rewards
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.beta=0.5

Nothing here knows about items: an identifier is a path through a hierarchy, and an answer is
scored by how many of its levels, from the first on, are the target's. With ``separator`` the
levels are plain text, ``Home > Kitchen > Pans``, and the same functions serve any taxonomy.

Loads the standard library only. No string makes any of these functions raise, and all of them
take time linear in the length of the response.
"""

from collections.abc import Sequence
from dataclasses import astuple, fields
from difflib import get_close_matches
from functools import lru_cache
from numbers import Integral, Real
from typing import Any

from gream_ext.identifiers import Identifier
from gream_ext.response import DEFAULT_FORMAT, UNREADABLE, AnswerFormat, Mode, read, split

STATUSES = {
    "exact": "the answer is the target",
    "partial": "the answer shares its first levels with the target",
    "different": "the answer is an identifier whose first level is not the target's; no item may have it",
    **UNREADABLE,
    "wrong_length": "the answer has fewer or more levels than an identifier has",
    "bad_target": "the ground truth of this row is no identifier of a right length",
}
"""Every ``status`` of `compute_score`; the first three are those of a well-formed response."""


def matched_levels(predicted: Sequence[Any], target: Sequence[Any]) -> int:
    """ℓ of eq. 13: the length of the longest common prefix.

    >>> matched_levels(("<|a_1|>", "<|b_2|>", "<|c_3|>"), ("<|a_1|>", "<|b_2|>", "<|c_9|>"))
    2
    """
    matched = 0
    for ours, theirs in zip(predicted, target, strict=False):
        if ours != theirs:
            break
        matched += 1
    return matched


def residual_reward(matched: int, levels: int, beta: float = 0.5) -> float:
    """r^rs of eq. 14: ``(matched / levels) ** beta``, from 0 to 1.

    ``ValueError`` unless 0 < beta ≤ 1 and 0 ≤ matched ≤ levels, levels at least 1.

    >>> residual_reward(1, 4)
    0.5
    """
    if not 0 < beta <= 1:
        raise ValueError(f"beta must be above 0 and at most 1, not {beta}")
    if levels < 1 or not 0 <= matched <= levels:
        raise ValueError(f"matched levels must be from 0 to levels ({levels}), not {matched}")
    return float((matched / levels) ** beta)


def extract_identifier(
    text: str, mode: Mode = "reason", answer_format: AnswerFormat = DEFAULT_FORMAT
) -> Identifier | None:
    """The identifier that a response gives as its answer, or None when it gives none; see `gream_ext.response.read`.

    >>> extract_identifier("<think>…</think> so <answer> <|a_1|><|b_2|> </answer>")
    ('<|a_1|>', '<|b_2|>')
    """
    return read(text, mode, answer_format)[0]


def compute_score(
    data_source: Any,
    solution_str: str,
    ground_truth: str,
    extra_info: Any = None,
    *,
    beta: float = 0.5,
    levels: int | None = None,
    shortest: int | None = None,
    binary: bool = False,
    mode: Mode | None = None,
    answer_begin: str = DEFAULT_FORMAT.answer_begin,
    answer_end: str = DEFAULT_FORMAT.answer_end,
    reasoning_begin: str = DEFAULT_FORMAT.reasoning_begin,
    reasoning_end: str = DEFAULT_FORMAT.reasoning_end,
    separator: str | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    """Score one response, with the signature that Verl calls.

    ``ground_truth`` is the target as text. ``extra_info["mode"]`` says how to read the response
    unless ``mode`` does; without either it is ``reason``. Options (Verl's ``reward_kwargs``):

    - ``beta``: eq. 14.
    - ``levels``: H of eqs 13–14; default: as many as the target has.
    - ``shortest``: the fewest levels an identifier may have, where not all have H (the conflict
      slot of colliding items only); default H. An absent level matches an absent level only.
    - ``binary``: score 1 for the target and 0 for everything else (the ablations' plain GRPO).
    - the five fields of `AnswerFormat`.

    Returns ``score`` (float), ``acc`` (1.0 for the target, else 0.0), ``matched_levels`` (ℓ, an
    int; 0 when malformed), ``well_formed`` (bool) and ``status`` (a key of `STATUSES`).
    ``ValueError`` on a wrong or misspelt option only. What else Verl hands over is passed by.

    >>> compute_score("gream", "<think>…</think><answer><|a_1|><|b_9|></answer>", "<|a_1|><|b_2|>")["status"]
    'partial'
    """
    if kwargs:
        _check_names(tuple(kwargs))
    written = (answer_begin, answer_end, reasoning_begin, reasoning_end, separator)
    answer_format = DEFAULT_FORMAT if written == _DEFAULT_WRITTEN else AnswerFormat(*written)
    if type(beta) is not float or levels is not None or shortest is not None or type(binary) is not bool:
        _check_types(beta, levels, shortest, binary)
    target = split(ground_truth.strip(), separator) if isinstance(ground_truth, str) else None
    height = len(target or ()) if levels is None else levels
    least = height if shortest is None else shortest
    if mode is None:
        # Another project's rows may have a "mode" of another meaning: a number, an array.
        given = extra_info.get("mode") if isinstance(extra_info, dict) else None
        mode = "direct" if isinstance(given, str) and given == "direct" else "reason"
    predicted, status = read(solution_str, mode, answer_format)
    matched = 0
    if target is None or not least <= len(target) <= height:
        predicted, status, height = None, "bad_target", max(height, 1)
    elif predicted is not None and not least <= len(predicted) <= height:
        predicted, status = None, "wrong_length"
    elif predicted is not None:
        matched = height if predicted == target else matched_levels(predicted, target)
        status = "exact" if matched == height else "partial" if matched else "different"
    score = residual_reward(matched, height, beta)
    acc = 1.0 if status == "exact" else 0.0
    return {
        "score": acc if binary else score,
        "acc": acc,
        "matched_levels": matched,
        "well_formed": predicted is not None,
        "status": status,
    }


_DEFAULT_WRITTEN = astuple(DEFAULT_FORMAT)
_OPTIONS = ("beta", "levels", "shortest", "binary", "mode", *(field.name for field in fields(AnswerFormat)))


@lru_cache
def _check_names(names: tuple[str, ...]) -> None:
    for name in names:
        if near := get_close_matches(name, _OPTIONS, n=1, cutoff=0.8):
            raise ValueError(f"the reward has no option {name!r}; did you mean {near[0]!r}?")


def _check_types(beta: Any, levels: Any, shortest: Any, binary: Any) -> None:
    """`ValueError` for anything else in the place of a number, or of true and false."""
    if not isinstance(binary, bool):
        raise ValueError(f"binary must be true or false, not {binary!r}")
    if isinstance(beta, bool) or not isinstance(beta, Real):
        raise ValueError(f"beta must be a number above 0 and at most 1, not {beta!r}")
    for name, value in (("levels", levels), ("shortest", shortest)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ValueError(f"{name} must be a whole number from 1 on, or None, not {value!r}")
    if levels is not None and shortest is not None and shortest > levels:
        raise ValueError(f"shortest must be from 1 to levels ({levels}), not {shortest}")
