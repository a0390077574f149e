"""What our recipes ask of the rollout, under ``actor_rollout_ref.rollout.custom``.

- ``answers``, the path of an item index: after ``<answer>`` only a real item, then ``</answer>`` (the recipe
  ``constrained``). What comes before, and direct mode, stays free.
- ``distinct``, the path of an item index: to a direct prompt the members of a group are different real items, drawn
  without replacement (the recipe ``distinct``).
- ``anchored``: one member of each group is given the true answer (the recipe ``anchored``).

The log-probs that such rollouts report are those of the model without any of it, as the actor computes them: ratios of
eq. 22 start at 1, and the policy that is trained is the model itself. Where verl would take them for the probabilities
with which the tokens were drawn (its rollout correction) the options are refused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gream_ext.errors import GreamError
from gream_ext.plugins.demand import demand

OPTION = "gream_member"
"""A sampling parameter of ours beside verl's: a `Member`."""
ANCHOR = "gream_anchor"
"""In the extra fields of a rollout that was given the true answer: how many tokens of its own stand before the answer,
and the answer's log-probability."""
KEY = "actor_rollout_ref.rollout.custom"
WORKS_WITH = "transformers"
MANAGER = "gream_ext.plugins.verl.agent_loop.ShortAgentLoopManager"


@dataclass(frozen=True)
class RolloutOptions:
    """Paths are those of item indexes."""

    answers: Path | None = None
    distinct: Path | None = None
    anchored: bool = False

    @classmethod
    def of(cls, rollout: Any) -> "RolloutOptions":
        """Of verl's rollout configuration; `GreamError` for a value of another kind."""
        custom = rollout.get("custom") or {}
        given = {name: custom[name] for name in ("answers", "distinct", "anchored") if custom.get(name) is not None}
        for name in {"answers", "distinct"} & given.keys():
            path = given[name]
            demand(f"{KEY}.{name}", path, isinstance(path, str) and path != "", "the path of an item index")
            given[name] = Path(path).expanduser()
        anchored = given.get("anchored", False)
        demand(f"{KEY}.anchored", anchored, isinstance(anchored, bool), "true or false")
        return cls(**given)

    @property
    def recipes(self) -> list[str]:
        """The recipes that ask for something."""
        asked = {"constrained": self.answers, "distinct": self.distinct, "anchored": self.anchored}
        return [name for name, value in asked.items() if value]

    @property
    def about_members(self) -> bool:
        """Whether a rollout must know which member of its group it is."""
        return self.distinct is not None or self.anchored


@dataclass(frozen=True)
class Member:
    """Which rollout of its prompt's group one is, and what it may be given."""

    number: int
    """Counted from 0."""
    direct: bool
    """Whether the response is the bare identifier."""
    answer: tuple[int, ...] = ()
    """The token ids of the true item; none where no member is given it."""


def anchor_mask(before: int, tokens: int) -> list[int]:
    """Which tokens of an anchor are trained: the answer given, and neither what stands before it nor the last token.

    What stands before is the policy's own and has no part in the answer's being right. The last is the end of the
    text; that it is left out is how the estimator knows an anchor.
    """
    return [0] * before + [1] * (tokens - before - 1) + [0]


def check(config: DictConfig) -> RolloutOptions:
    """The options of a run; `GreamError` where they cannot be had, or not with log-probs that are the trainer's."""
    rollout = config.actor_rollout_ref.rollout
    options = RolloutOptions.of(rollout)
    if not options.recipes:
        return options
    named = f"the recipe {options.recipes[0]}"
    if rollout.name != WORKS_WITH:
        raise GreamError(
            f"{named} works with the rollout transformers (the recipe cpu), not with {rollout.name}, whose log-probs "
            f"of tokens that are not drawn freely are not the trainer's: leave {named} out"
        )
    for name in ("rollout_is", "rollout_rs"):
        if OmegaConf.select(config, f"algorithm.rollout_correction.{name}"):
            raise GreamError(
                f"algorithm.rollout_correction.{name} and {named} contradict each other: the log-probs of its tokens "
                "are the model's, not those with which they were drawn: leave one of the two out"
            )
    for path in (options.answers, options.distinct):
        if path is not None and not path.exists():
            raise GreamError(f"{path} is missing ({KEY}): run `gream index build`, or set workspace=FOLDER")
    manager = OmegaConf.select(rollout, "agent.agent_loop_manager_class")
    if options.about_members and manager != MANAGER:
        raise GreamError(f"{named} needs actor_rollout_ref.rollout.agent.agent_loop_manager_class={MANAGER}")
    if options.distinct is not None:
        _check_distinct(rollout, options.distinct)
    return options


def _check_distinct(rollout: Any, index: Path) -> None:
    import polars as pl

    if rollout.top_p != 1 or not rollout.temperature > 0:
        raise GreamError(
            "the recipe distinct draws from the whole catalogue: set actor_rollout_ref.rollout.top_p=1.0 and a "
            "temperature above 0"
        )
    items = pl.scan_parquet(index).select(pl.len()).collect().item()
    if rollout.n > items:
        raise GreamError(f"{index} has {items} items, fewer than actor_rollout_ref.rollout.n={rollout.n}: lower n")
