"""The bonus-calibrated group advantage of SRPO (section 5.2, eqs 15–21).

Needs torch and numpy only; `gream_ext.plugins.verl.estimator` is what Verl calls.
"""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import count
from math import comb, sqrt

import numpy as np
import torch

EPSILON = 1e-6
"""In the denominator of the dense part, as in Verl's GRPO."""


def group_success(correct_count: int, group_size: int, k: int) -> float:
    """ρ of eq. 15: the probability that k rollouts drawn without replacement hold a correct one.

    A group smaller than ``k`` is drawn whole. Exact but for the last rounding, at any size:
    the binomials are integers. ``ValueError`` on impossible counts.

    >>> group_success(1, 10, 4)
    0.4
    """
    return float(1 - _all_wrong(correct_count, group_size, k))


@lru_cache(maxsize=4096)
def group_bonus(correct_count: int, group_size: int, k: int) -> tuple[float, float]:
    """The bonus of a correct and of an incorrect rollout of one group (eqs 16 and 18–20).

    Both 0 where σ is 0: nobody is right, or somebody is drawn for certain. ``ValueError`` on impossible counts.

    >>> group_bonus(2, 4, 1)
    (1.0, -1.0)
    """
    miss = _all_wrong(correct_count, group_size, k)
    sigma = sqrt(float(miss * (1 - miss)))
    if sigma == 0.0:
        return 0.0, 0.0
    # σ is above 0, so k fits into the wrong ones.
    delta = Fraction(comb(group_size - correct_count - 1, k - 1), comb(group_size - 1, k - 1))
    return float(miss) / sigma, float(miss - delta) / sigma


def dense_advantages(rewards: torch.Tensor, groups: torch.Tensor | np.ndarray | Sequence) -> torch.Tensor:
    """A^rs of eq. 17: the reward minus its group's mean, over the group's unbiased std plus 1e-6.

    ``rewards`` and ``groups`` are those of `srpo_advantages`, and so are dtype, device and shape of the result.
    Verl's GRPO but for the last rounding (a group of one keeps its reward), and but where all rewards of a group
    are equal: there it is 0, while Verl divides the rounding error of the mean by 1e-6. ``ValueError`` when the
    two differ in length, or a reward is NaN or infinite.
    """
    _check(groups, 1, rewards=rewards)
    return _like(_dense(_floats(rewards, groups), _members(groups)), rewards)


def bonus_advantages(correct: torch.Tensor, groups: torch.Tensor | np.ndarray | Sequence, k: int) -> torch.Tensor:
    """The bonus term of eq. 21, float64 [rollouts] on the device of ``correct``; it sums to zero over each group.

    ``correct`` is bool [rollouts]: v of the paper. ``groups`` and ``k`` are those of `srpo_advantages`.
    ``ValueError`` when the two differ in length, or k is below 1.
    """
    _check(groups, k, correct=correct)
    return torch.from_numpy(_bonus(correct, _members(groups), k)).to(correct.device)


def srpo_advantages(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    groups: torch.Tensor | np.ndarray | Sequence,
    k: int,
    bonus: bool = True,
    anchors: torch.Tensor | None = None,
    anchor_weight: float | None = None,
) -> torch.Tensor:
    """A^final of eq. 21: one advantage per rollout.

    Args:
        rewards: float [rollouts], r^rs of eq. 14; integers are taken as float32.
        correct: bool [rollouts], whether a rollout is exactly right.
        groups: the group of each rollout: an integer tensor, an array or any sequence of hashable
            labels [rollouts], in any order; groups may differ in size.
        k: the size of the draw of eq. 15, at least 1; a smaller group is drawn whole.
        bonus: False leaves the dense part alone, which is Verl's GRPO.
        anchors: bool [rollouts], which of them were given the true answer; not of the paper. ρ and the bonus are those
            of the others, for an anchor says nothing about what the policy finds.
        anchor_weight: None makes an anchor a member of its group in eq. 17. A number is its advantage, and the others'
            are what they would be without it: a cross-entropy term of that weight.

    Returns:
        float [rollouts], of the dtype and on the device of ``rewards``, float32 where those are
        integers; never NaN for rewards with finite sums. ``ValueError`` when the three differ in length,
        a reward is NaN or infinite, or k is below 1.

    >>> srpo_advantages(torch.tensor([1.0, 0.0]), torch.tensor([True, False]), ["q", "q"], k=1)
    tensor([ 1.7071, -1.7071])
    """
    if anchors is not None and bool(anchors.any()):
        return _anchored(rewards, correct, groups, k, bonus, anchors, anchor_weight)
    _check(groups, k, rewards=rewards, correct=correct)
    members = _members(groups)
    advantages = _dense(_floats(rewards, groups), members)
    if bonus:
        advantages += _bonus(correct, members, k)
    return _like(advantages, rewards)


def _anchored(
    rewards: torch.Tensor,
    correct: torch.Tensor,
    groups: torch.Tensor | np.ndarray | Sequence,
    k: int,
    bonus: bool,
    anchors: torch.Tensor,
    weight: float | None,
) -> torch.Tensor:
    _check(groups, k, rewards=rewards, correct=correct, anchors=anchors)
    groups, own = _group_numbers(groups), ~anchors
    of_own = groups[own.cpu().numpy()]
    if weight is None:
        advantages = dense_advantages(rewards, groups)
        if bonus:
            advantages[own] += bonus_advantages(correct[own], of_own, k).to(advantages.dtype)
        return advantages
    advantages = torch.full_like(rewards, weight, dtype=rewards.dtype if rewards.is_floating_point() else torch.float32)
    advantages[own] = srpo_advantages(rewards[own], correct[own], of_own, k, bonus)
    return advantages


def _check(groups: torch.Tensor | np.ndarray | Sequence, k: int, **of_rollouts: torch.Tensor) -> None:
    """`ValueError` unless all have one entry a rollout and k is possible; looks at shapes only."""
    shape = tuple(groups.shape) if isinstance(groups, torch.Tensor | np.ndarray) else (len(groups),)
    if len(shape) != 1 or any(values.shape != shape for values in of_rollouts.values()):
        given = ", ".join(f"{name} {list(values.shape)}" for name, values in of_rollouts.items())
        raise ValueError(f"one entry for each rollout is needed, not {given} and groups {list(shape)}")
    if k < 1:
        raise ValueError(f"k of eq. 15 must be at least 1, not {k}")


def _floats(rewards: torch.Tensor, groups: torch.Tensor | np.ndarray | Sequence) -> np.ndarray:
    """float32 or float64 [rollouts]. For a few numbers of each group numpy's calls cost a fraction of torch's."""
    rewards = rewards.detach().cpu()
    values = (rewards if rewards.dtype in (torch.float32, torch.float64) else rewards.float()).numpy()
    if not (finite := np.isfinite(values)).all():
        # One such reward would make all advantages of its group NaN.
        row = int(finite.argmin())
        raise ValueError(
            f"the reward of rollout {row}, of the group {groups[row]!s}, is {values[row]}, no finite number"
        )
    return values


def _like(advantages: np.ndarray, rewards: torch.Tensor) -> torch.Tensor:
    """On the device of the rewards, and of their dtype where that is one of floats."""
    dtype = rewards.dtype if rewards.is_floating_point() else torch.float32
    return torch.from_numpy(advantages).to(device=rewards.device, dtype=dtype)


def _dense(rewards: np.ndarray, members: list[np.ndarray]) -> np.ndarray:
    advantages = np.empty_like(rewards)
    for rows in members:
        grouped, size = rewards[rows], rows.shape[1]
        if size == 1:
            advantages[rows] = grouped / (1.0 + EPSILON)
            continue
        centred = grouped - grouped.sum(axis=1, keepdims=True) / size
        std = np.sqrt(np.einsum("ij,ij->i", centred, centred) / (size - 1))
        normalised = centred / (std + EPSILON)[:, None]
        normalised[(grouped == grouped[:, :1]).all(axis=1)] = 0.0
        advantages[rows] = normalised
    return advantages


def _bonus(correct: torch.Tensor, members: list[np.ndarray], k: int) -> np.ndarray:
    right = correct.detach().cpu().numpy().astype(bool)
    bonus = np.empty(len(right))
    for rows in members:
        grouped, size = right[rows], rows.shape[1]
        counts = grouped.sum(axis=1)
        of_correct, of_incorrect = np.empty((2, size + 1))
        for correct_count in np.flatnonzero(np.bincount(counts)).tolist():
            of_correct[correct_count], of_incorrect[correct_count] = group_bonus(correct_count, size, k)
        bonus[rows] = np.where(grouped, of_correct[counts][:, None], of_incorrect[counts][:, None])
    return bonus


def _all_wrong(correct_count: int, group_size: int, k: int) -> Fraction:
    """1 − ρ: the probability that all of the k drawn are wrong."""
    if k < 1 or group_size < 1 or not 0 <= correct_count <= group_size:
        raise ValueError(f"no group has {correct_count} of {group_size} correct with k {k}")
    drawn = min(k, group_size)
    return Fraction(comb(group_size - correct_count, drawn), comb(group_size, drawn))


def _members(groups: torch.Tensor | np.ndarray | Sequence) -> list[np.ndarray]:
    """For each group size, the rows of the rollouts of such groups: int64 [groups, size].

    Within a group the rollouts keep their order.
    """
    numbers = _group_numbers(groups)
    sizes = np.bincount(numbers)
    order, size_of = np.argsort(numbers, kind="stable"), np.repeat(sizes, sizes)
    return [order[size_of == size].reshape(-1, size) for size in np.unique(sizes)]


def _group_numbers(groups: torch.Tensor | np.ndarray | Sequence) -> np.ndarray:
    """The groups counted from 0, int64 [rollouts]."""
    labels = groups.detach().cpu().numpy() if isinstance(groups, torch.Tensor) else groups
    if not isinstance(labels, np.ndarray):
        # Not through an array, in which 1 and "1" would be the same text and a tuple a row.
        return _in_order_met([label.item() if isinstance(label, torch.Tensor) else label for label in labels])
    if labels.dtype != object:
        return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)
    # Verl's ids come here, those of a group mostly side by side: comparing neighbours costs a fraction of hashing all.
    starts = np.flatnonzero(np.append(len(labels) > 0, labels[1:] != labels[:-1]))
    return np.repeat(_in_order_met(labels[starts].tolist()), np.diff(starts, append=len(labels)))


def _in_order_met(labels: list[Hashable]) -> np.ndarray:
    """Each label's number, int64: one not met before gets the next."""
    numbers: defaultdict[Hashable, int] = defaultdict(count().__next__)
    return np.fromiter(map(numbers.__getitem__, labels), np.int64, len(labels))
