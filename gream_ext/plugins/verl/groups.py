"""Variance-guided sampling (section 5.3) without verl: which groups count, and what a step was like."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from gream_ext.advantages import bonus_advantages, dense_advantages, group_success

KEPT, SAME, BELOW_FLOOR, FAILED = "kept", "same", "below_floor", "failed"


@dataclass(frozen=True, eq=False)
class Group:
    """The rollouts of one prompt that came back.

    ``values`` is the integer that the reward is made of: matched levels, or 1 for the target and 0
    for all else. ``tokens`` counts those of the responses. An anchor, which was given the true answer, is one of the
    ``values`` and counted in ``tokens``; rewards, levels and well-formed answers are those of the others.
    """

    values: Sequence[int]
    rewards: Sequence[float]
    tokens: int = 0
    levels: Sequence[int] = ()
    """Matched levels, where ``values`` is something else."""
    well_formed: int = 0
    anchors: Sequence[float] = ()
    """The log-probability of the true answer, for each rollout that was given it."""


def judge(group: Group, min_level: int = 1) -> str:
    """`KEPT`, or why a group is of no use.

    `SAME`: all rollouts earned the same, so that no advantage can tell them apart. `BELOW_FLOOR`:
    none reached ``min_level``. `FAILED`: fewer than two came back. The comparison is of integers:
    a standard deviation of equal rewards need not be 0.
    """
    if len(group.values) < 2:
        return FAILED
    if min(group.values) == max(group.values):
        return SAME
    return KEPT if max(group.values) >= min_level else BELOW_FLOOR


@dataclass
class StepRecord:
    """What happened to the groups of one training step, for verl's logger."""

    groups: list[tuple[Group, str]] = field(default_factory=list)
    """All that came back, with what `judge` says of them."""
    surplus: list[Group] = field(default_factory=list)
    """Kept groups that the batch has no room for."""
    refills: int = 0

    @property
    def verdicts(self) -> Counter[str]:
        return Counter(verdict for _, verdict in self.groups)

    @property
    def levels(self) -> Counter[int]:
        """Rollouts by their matched levels."""
        return Counter(level for group, _ in self.groups for level in group.levels or group.values)

    def metrics(self, highest: int, srpo: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Numbers by name; ``highest`` is the highest level to tell of, ``srpo`` the estimator's options.

        ``gream/rollouts/*`` and ``gream/levels/*`` are about all rollouts of the step, before the
        filter: verl's own ``critic/*`` sees those that were kept only.
        """
        groups, verdicts, levels = [group for group, _ in self.groups], self.verdicts, self.levels
        kept = [group for group, verdict in self.groups if verdict == KEPT and group not in self.surplus]
        wasted = [group for group, verdict in self.groups if verdict != KEPT] + self.surplus
        rollouts = levels.total()
        found: dict[str, float] = {
            "gream/groups/kept": len(kept),
            "gream/groups/kept_rate": verdicts[KEPT] / max(len(groups), 1),
            "gream/groups/refills": self.refills,
            "gream/groups/surplus": len(self.surplus),
            "gream/rollouts/all": rollouts,
            "gream/rollouts/wasted": sum(len(group.rewards) for group in wasted),
            "gream/rollouts/reward": sum(sum(group.rewards) for group in groups) / max(rollouts, 1),
            "gream/rollouts/well_formed": sum(group.well_formed for group in groups) / max(rollouts, 1),
            "gream/tokens/all": sum(group.tokens for group in groups),
            "gream/tokens/wasted": sum(group.tokens for group in wasted),
        }
        for reason in (SAME, BELOW_FLOOR, FAILED):
            found[f"gream/groups/evicted_{reason}"] = verdicts[reason]
        same_at = Counter(group.values[0] for group, verdict in self.groups if verdict == SAME)
        for level in range(highest + 1):
            found[f"gream/levels/{level}"] = levels[level] / max(rollouts, 1)
            found[f"gream/groups/evicted_same_at_{level}"] = same_at[level]
        if anchors := [logprob for group in groups for logprob in group.anchors]:
            found["gream/anchors/all"] = len(anchors)
            found["gream/anchors/logprob"] = sum(anchors) / len(anchors)
        if srpo and kept:
            found.update(bonus_metrics(kept, srpo))
        return found


def bonus_metrics(groups: Sequence[Group], srpo: Mapping[str, Any]) -> dict[str, float]:
    """Mean ρ and σ of the groups (eqs 15–16), and the share of |advantage| that comes from the bonus.

    ``srpo`` are the estimator's options.
    """
    k, threshold, weight = int(srpo["k"]), srpo["success_threshold"], srpo.get("anchor_weight")
    rho = [group_success(sum(r >= threshold for r in group.rewards), len(group.rewards), k) for group in groups]
    anchors = sum(len(group.anchors) for group in groups)
    members = [[*group.rewards, *([1.0] * len(group.anchors) if weight is None else ())] for group in groups]
    dense = dense_advantages(*_numbered(members)).abs().sum().item() + (weight or 0.0) * anchors
    rewards, numbers = _numbered([group.rewards for group in groups])
    extra = bonus_advantages(rewards >= threshold, numbers, k).abs().sum().item() if srpo["bonus"] else 0.0
    return {
        "gream/srpo/rho": sum(rho) / len(rho),
        "gream/srpo/sigma": sum((p * (1 - p)) ** 0.5 for p in rho) / len(rho),
        "gream/srpo/bonus_share": extra / (dense + extra) if dense + extra else 0.0,
    }


def _numbered(groups: Sequence[Sequence[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """All rewards, float64, and the number of the group of each."""
    numbers = torch.repeat_interleave(torch.tensor([len(rewards) for rewards in groups]))
    return torch.tensor([reward for rewards in groups for reward in rewards], dtype=torch.float64), numbers
