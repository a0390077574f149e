"""Figures of a recommender: hits are items, and every user counts.

One target a user. Recall and NDCG are taken at the place of the target in the list of
recommendations, Pass@k over independent samples. Numpy only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MISSED = -1


def ranks(targets: Sequence[str], recommendations: Sequence[Sequence[str]]) -> np.ndarray:
    """Place of each user's target among the recommendations, from 0; `MISSED` where it is not: int64 [users].

    >>> ranks(["b", "z"], [["a", "b"], ["a", "b"]]).tolist()
    [1, -1]
    """
    found = [
        list(items).index(target) if target in items else MISSED
        for target, items in zip(targets, recommendations, strict=True)
    ]
    return np.array(found, dtype=np.int64)


def recall_at(places: np.ndarray, cutoff: int) -> np.ndarray:
    """1.0 where the target stands among the first ``cutoff``, else 0.0: float64 [users]."""
    _check_cutoff(cutoff)
    return ((places != MISSED) & (places < cutoff)).astype(np.float64)


def ndcg_at(places: np.ndarray, cutoff: int) -> np.ndarray:
    """``1 / log2(place + 2)`` where the target stands among the first ``cutoff``, else 0.0: float64 [users].

    With one target the best possible sum is 1, so nothing else has to be divided by.
    """
    _check_cutoff(cutoff)
    gains = 1.0 / np.log2(np.maximum(places, 0) + 2.0)
    return np.where((places != MISSED) & (places < cutoff), gains, 0.0)


def pass_at_k(correct: np.ndarray, samples: int, k: int) -> np.ndarray:
    """The unbiased estimator ``1 - C(n - c, k) / C(n, k)``: the chance that k of the n samples hold a correct one.

    ``correct`` int [users] counts the correct ones of ``samples``. ``ValueError`` unless 1 ≤ k ≤ samples
    and 0 ≤ correct ≤ samples. float64 [users].

    >>> pass_at_k(np.array([0, 1, 9, 10]), samples=10, k=5).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs from {k} samples on, there are {samples}")
    correct = np.asarray(correct, dtype=np.int64)
    if ((correct < 0) | (correct > samples)).any():
        raise ValueError(f"correct samples must be from 0 to {samples}")
    # C(n - c, k) / C(n, k) as a product of k fractions, one of them zero where k is above n - c.
    places = np.arange(k)
    fractions = (samples - correct[:, None] - places) / (samples - places)
    return 1.0 - fractions.prod(axis=1)


def first_k(correct: np.ndarray, k: int) -> np.ndarray:
    """1.0 where one of the first k samples is correct, the plain reading of Pass@k: float64 [users].

    ``correct`` bool [users, samples].
    """
    if not 1 <= k <= correct.shape[1]:
        raise ValueError(f"the first {k} samples are asked for, there are {correct.shape[1]}")
    return np.asarray(correct[:, :k].any(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class Interval:
    """A mean over users with its standard error and confidence interval."""

    mean: float
    standard_error: float
    low: float
    high: float


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of one value a user, with the interval that resampling users gives (percentiles).

    ``values`` float64 [users], other numbers and bool are converted; ``level`` is what the interval covers.
    ``ValueError`` when there is no user. The standard error is the usual one, ``s / √users``; 0 for one user.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        raise ValueError("there is no user to take the mean of")
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    kinds, counts = np.unique(values, return_counts=True)
    # How often each kind of value is drawn is all that a resample's mean depends on.
    drawn = np.random.default_rng(seed).multinomial(len(values), counts / len(values), size=resamples)
    means = drawn @ kinds / len(values)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values.mean()), error, float(low), float(high))


@dataclass(frozen=True)
class Comparison:
    """Second minus first over the same users: the difference of means, its paired standard error and interval."""

    difference: float
    standard_error: float
    low: float
    high: float
    users: int


def paired(first: np.ndarray, second: np.ndarray, level: float = 0.95, seed: int = 0) -> Comparison:
    """Compare two values of each user, both float64 [users] in the same order; see `bootstrap`.

    ``ValueError`` unless there are as many of both, and at least one.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} users cannot be paired with {len(second)}")
    interval = bootstrap(np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64), level, seed=seed)
    return Comparison(interval.mean, interval.standard_error, interval.low, interval.high, len(first))


def _check_cutoff(cutoff: int) -> None:
    if cutoff < 1:
        raise ValueError(f"a cutoff must be at least 1, not {cutoff}")
