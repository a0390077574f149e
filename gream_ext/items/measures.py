"""How good codes are: how they are used, and what items that share them have in common."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from gream_ext.items.conflict import groups

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
        "levels": levels,
    }


def shared_levels(
    codes: np.ndarray, categories: Sequence[Collection[str]], neighbours: np.ndarray, seed: int = 0
) -> list[dict[str, Any]]:
    """What pairs of items have in common that share their first 1, 2, … levels; the first entry is a random index.

    ``neighbours``, int [pairs, 2], are rows of items that follow one another in some history. ``share_category`` is
    estimated from `PAIRS` pairs of items with categories, ``next_item`` (the pair are neighbours) is exact. Both are
    None where there are no such pairs. A random index shares nothing but chance: its figures are those of all pairs.
    """
    chance = np.random.default_rng(seed)
    low, high = neighbours.min(axis=1), neighbours.max(axis=1)
    keys = np.unique((low * np.int64(len(codes)) + high)[low != high])
    linked = np.stack([keys // max(1, len(codes)), keys % max(1, len(codes))], axis=1)
    rows = []
    for shared in range(codes.shape[1] + 1):
        group, members = groups(codes[:, :shared]) if shared else (np.zeros(len(codes), int), np.array([len(codes)]))
        pairs = int((members * (members - 1) // 2).sum())
        linked_here = int((group[linked[:, 0]] == group[linked[:, 1]]).sum())
        rows.append(
            {
                "levels": shared,
                "pairs": pairs,
                "share_category": _share_category(group, members, categories, chance),
                "next_item": linked_here / pairs if pairs else None,
            }
        )
    return rows


def _share_category(
    group: np.ndarray, members: np.ndarray, categories: Sequence[Collection[str]], chance: np.random.Generator
) -> float | None:
    """The share of pairs within a group that have a category in common."""
    weight = members * (members - 1.0)
    if not weight.sum():
        return None
    order = np.argsort(group, kind="stable")
    starts = np.cumsum(members) - members
    drawn = chance.choice(len(members), size=PAIRS, p=weight / weight.sum())
    first = chance.integers(0, members[drawn])
    second = (first + chance.integers(1, members[drawn])) % members[drawn]
    sets = [frozenset(of_item) for of_item in categories]
    left, right = order[starts[drawn] + first].tolist(), order[starts[drawn] + second].tolist()
    known = [(sets[a], sets[b]) for a, b in zip(left, right, strict=True) if sets[a] and sets[b]]
    return sum(not a.isdisjoint(b) for a, b in known) / len(known) if known else None


def quality_table(quality: dict[str, Any]) -> str:
    """The figures of `code_quality`, for the terminal."""
    lines = [
        f"{quality['items']:,} items, raw collision rate {quality['raw_collision_rate']:.3f} "
        f"({quality['colliding_items']:,} items collide, the largest group has {quality['largest_group']})",
        "level  codes  used  perplexity  quantisation error",
    ]
    for number, level in enumerate(quality["levels"], start=1):
        error = level["quantisation_error"]
        lines.append(
            f"{number:>5}  {level['size']:>5}  {level['utilisation']:>4.0%}  {level['perplexity']:>10.1f}  "
            f"{'—' if error is None else f'{error:.4f}':>18}"
        )
    return "\n".join(lines)


def shared_table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures of `shared_levels`, for the terminal."""
    lines = ["items that share    pairs  share a category  follow one another"]
    for row in rows:
        name = f"{row['levels']} level{'s' if row['levels'] > 1 else ''}" if row["levels"] else "random index"
        category, following = (
            f"{row[key]:.4f}" if row[key] is not None else "—" for key in ("share_category", "next_item")
        )
        lines.append(f"{name:<14}  {row['pairs']:>9,}  {category:>16}  {following:>18}")
    return "\n".join(lines)
