"""Variance-guided sampling (section 5.3) without verl: which groups count, and what a step was like."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from gream_ext.advantages import bonus_advantages, dense_advantages, group_success

KEPT, SAME, BELOW_FLOOR, FAILED = "kept", "same", "below_floor", "failed"


@dataclass(frozen=True)
class Group:
    """The rollouts of one prompt that came back.

    ``values`` is the integer that the reward is made of: matched levels, or 1 for the target and 0
    for all else. ``tokens`` counts those of the responses.
    """

    values: Sequence[int]
    rewards: Sequence[float]
    tokens: int = 0
    levels: Sequence[int] = ()
    """Matched levels, where ``values`` is something else."""
    well_formed: int = 0


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

    kept: list[Group] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)
    same_at: Counter[int] = field(default_factory=Counter)
    levels: Counter[int] = field(default_factory=Counter)
    reward_sum: float = 0.0
    well_formed: int = 0
    tokens: int = 0
    wasted_tokens: int = 0
    wasted_rollouts: int = 0
    refills: int = 0
    surplus: int = 0

    def add(self, group: Group, verdict: str) -> None:
        self.verdicts[verdict] += 1
        self.levels.update(group.levels or group.values)
        self.reward_sum += sum(group.rewards)
        self.well_formed += group.well_formed
        self.tokens += group.tokens
        if verdict == SAME:
            self.same_at[group.values[0]] += 1
        if verdict == KEPT:
            self.kept.append(group)
        else:
            self._waste(group)

    def drop(self, groups: Iterable[Group]) -> None:
        """Kept groups that the batch has no room for."""
        for group in groups:
            self.kept.remove(group)
            self.surplus += 1
            self._waste(group)

    def _waste(self, group: Group) -> None:
        self.wasted_tokens += group.tokens
        self.wasted_rollouts += len(group.values)

    def metrics(self, highest: int, srpo: Mapping[str, float] | None = None) -> dict[str, float]:
        """Numbers by name; ``highest`` is the highest level to tell of, ``srpo`` the estimator's options.

        ``gream/rollouts/*`` and ``gream/levels/*`` are about all rollouts of the step, before the
        filter: verl's own ``critic/*`` sees those that were kept only.
        """
        rollouts = sum(self.levels.values())
        found: dict[str, float] = {
            "gream/groups/kept": self.verdicts[KEPT] - self.surplus,
            "gream/groups/kept_rate": self.verdicts[KEPT] / max(self.verdicts.total(), 1),
            "gream/groups/refills": self.refills,
            "gream/groups/surplus": self.surplus,
            "gream/rollouts/all": rollouts,
            "gream/rollouts/wasted": self.wasted_rollouts,
            "gream/rollouts/reward": self.reward_sum / max(rollouts, 1),
            "gream/rollouts/well_formed": self.well_formed / max(rollouts, 1),
            "gream/tokens/all": self.tokens,
            "gream/tokens/wasted": self.wasted_tokens,
        }
        for reason in (SAME, BELOW_FLOOR, FAILED):
            found[f"gream/groups/evicted_{reason}"] = self.verdicts[reason]
        for level in range(highest + 1):
            found[f"gream/levels/{level}"] = self.levels[level] / max(rollouts, 1)
            found[f"gream/groups/evicted_same_at_{level}"] = self.same_at[level]
        if srpo and self.kept:
            found.update(bonus_metrics(self.kept, int(srpo["k"]), srpo["success_threshold"], bool(srpo["bonus"])))
        return found


def bonus_metrics(groups: Sequence[Group], k: int, threshold: float, bonus: bool) -> dict[str, float]:
    """Mean ρ and σ of the groups (eqs 15–16), and the share of |advantage| that comes from the bonus."""
    rewards = torch.tensor([reward for group in groups for reward in group.rewards], dtype=torch.float64)
    numbers = torch.tensor([number for number, group in enumerate(groups) for _ in group.rewards])
    correct = rewards >= threshold
    rho = [group_success(sum(r >= threshold for r in group.rewards), len(group.rewards), k) for group in groups]
    dense = dense_advantages(rewards, numbers).abs().sum().item()
    extra = bonus_advantages(correct, numbers, k).abs().sum().item() if bonus else 0.0
    return {
        "gream/srpo/rho": sum(rho) / len(rho),
        "gream/srpo/sigma": sum((p * (1 - p)) ** 0.5 for p in rho) / len(rho),
        "gream/srpo/bonus_share": extra / (dense + extra) if dense + extra else 0.0,
    }
