"""How good codes are: how they are used, and what items that share them have in common."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gream_ext.items.conflict import groups
from gream_ext.items.kmeans import means
from gream_ext.items.rq_kmeans import mean_square, take_off

PAIRS = 100_000
"""Pairs drawn to estimate how many share a category."""


def code_quality(codes: np.ndarray, sizes: Sequence[int], errors: Sequence[float] | None = None) -> dict[str, Any]:
    """Collisions and the use of each level, of codes int32 [items, levels] before the conflict slot.

    The collision rate is 1 − unique / items. Utilisation is the share of a level's codes that occur, perplexity the
    exponential of their entropy: what a level of evenly used codes would have. ``errors`` are those of RQ-KMeans.
    """
    _, members = groups(codes)
    items = max(1, len(codes))
    levels = []
    for level, size in enumerate(sizes):
        share = np.bincount(codes[:, level], minlength=size) / items
        used = share[share > 0]
        levels.append(
            {
                "size": int(size),
                "utilisation": len(used) / size,
                "perplexity": float(np.exp(-(used * np.log(used)).sum())),
                "quantisation_error": None if errors is None else errors[level],
            }
        )
    return {
        "items": len(codes),
        "raw_collision_rate": 1 - len(members) / items,
        "colliding_items": int(members[members > 1].sum()),
        "largest_group": int(members.max(initial=0)),
        "group_sizes": {str(size): int(count) for size, count in enumerate(np.bincount(members)) if count},
        "levels": levels,
    }


def shared_levels(
    codes: np.ndarray, categories: Sequence[Collection[str]], neighbours: np.ndarray, seed: int = 0
) -> list[dict[str, Any]]:
    """What pairs of items have in common that share their first 1, 2, … levels; the first entry is a random index.

    ``neighbours``, int [pairs, 2], are rows of items that follow one another in some history. ``share_category`` is
    estimated from `PAIRS` pairs of items with categories, ``next_item`` (the pair are neighbours) is exact. Both are
    None where there are no such pairs. A random index shares nothing but by chance: its figures are those of all pairs.
    """
    rng = np.random.default_rng(seed)
    linked = np.unique(np.sort(neighbours[neighbours[:, 0] != neighbours[:, 1]], axis=1), axis=0)
    rows = []
    for shared in range(codes.shape[1] + 1):
        group, members = groups(codes[:, :shared])
        pairs = int((members * (members - 1) // 2).sum())
        linked_here = int((group[linked[:, 0]] == group[linked[:, 1]]).sum())
        rows.append(
            {
                "levels": shared,
                "pairs": pairs,
                "share_category": _share_category(group, members, categories, rng),
                "next_item": linked_here / pairs if pairs else None,
            }
        )
    return rows


def _share_category(
    group: np.ndarray, members: np.ndarray, categories: Sequence[Collection[str]], rng: np.random.Generator
) -> float | None:
    """The share of pairs within a group that have a category in common."""
    weight = members * (members - 1.0)
    if not weight.sum():
        return None
    order = np.argsort(group, kind="stable")
    starts = np.cumsum(members) - members
    drawn = rng.choice(len(members), size=PAIRS, p=weight / weight.sum())
    first = rng.integers(0, members[drawn])
    second = (first + rng.integers(1, members[drawn])) % members[drawn]
    sets = [frozenset(of_item) for of_item in categories]
    left, right = order[starts[drawn] + first].tolist(), order[starts[drawn] + second].tolist()
    known = [(sets[a], sets[b]) for a, b in zip(left, right, strict=True) if sets[a] and sets[b]]
    return sum(not a.isdisjoint(b) for a, b in known) / len(known) if known else None


def index_measures(
    codes: np.ndarray,
    sizes: Sequence[int],
    vectors: np.ndarray | None,
    categories: Sequence[Collection[str]],
    neighbours: np.ndarray,
    seed: int = 0,
    errors: Sequence[float] | None = None,
) -> dict[str, Any]:
    """`code_quality` and `shared_levels` in one, with errors from ``vectors`` unless given; see there."""
    if errors is None and vectors is not None:
        errors = quantisation_errors(vectors, codes)
    shared = shared_levels(codes, categories, neighbours, seed)
    return {**code_quality(codes, sizes, errors), "shared_levels": shared}


def random_codes(items: int, sizes: Sequence[int], seed: int = 0) -> np.ndarray:
    """A random index to measure beside one that was made: each code drawn evenly, int32 [items, levels]."""
    rng = np.random.default_rng([seed, items])
    return np.stack([rng.integers(0, size, items) for size in sizes], axis=1).astype(np.int32)


def quantisation_errors(vectors: np.ndarray, codes: np.ndarray) -> list[float]:
    """After each level, the mean squared length of what is left when each code stands for the mean of its rows.

    For codes whose codebooks nobody has. ``vectors`` float32 [rows, width], ``codes`` int [rows, levels].
    """
    residual = np.array(vectors, dtype=np.float32, order="C")
    errors = []
    for level in codes.T:
        take_off(residual, means(residual, level, int(level.max()) + 1), level)
        errors.append(mean_square(residual))
    return errors
