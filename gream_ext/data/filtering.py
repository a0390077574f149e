"""Iterative k-core: what is left when rare users and items are dropped until nobody is rare."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from gream_ext.data.ids import codes

CHUNK = 1 << 20
"""Rows at once: numpy makes int64 of everything that it counts or uses as an index."""


def k_core(interactions: pl.DataFrame, k: int, user_least: int | None = None) -> pl.DataFrame:
    """The largest subset in which every user and every item has at least ``k`` interactions, rows in order.

    ``interactions`` has ``user_id`` and ``item_id``; repeated pairs count each time. Users need ``user_least``
    interactions, where that is given. Minima of 0 or 1 keep all.
    """
    user_least = k if user_least is None else user_least
    if max(k, user_least) <= 1:
        return interactions
    keep = k_core_mask(codes(interactions["user_id"]), codes(interactions["item_id"]), k, user_least)
    return interactions if keep.all() else interactions.filter(pl.Series(keep))


def k_core_mask(users: np.ndarray, items: np.ndarray, k: int, user_least: int | None = None) -> np.ndarray:
    """Which rows are in the k-core, bool [rows]; ``users`` and ``items`` are codes from 0, [rows].

    >>> k_core_mask(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2).tolist()
    [True, True, True, True, False]
    """
    keep = np.ones(len(users), dtype=bool)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(users), CHUNK)]
    while len(users):
        frequent_user = _counts(users, keep, chunks) >= (k if user_least is None else user_least)
        frequent_item = _counts(items, keep, chunks) >= k
        before = np.count_nonzero(keep)
        for chunk in chunks:
            keep[chunk] &= frequent_user[users[chunk]] & frequent_item[items[chunk]]
        if np.count_nonzero(keep) == before:
            break
    return keep


def _counts(ids: np.ndarray, keep: np.ndarray, chunks: Sequence[slice]) -> np.ndarray:
    """How often each id stands in the rows to keep, int64 [ids]."""
    counts = np.zeros(int(ids.max()) + 1, dtype=np.int64)
    for chunk in chunks:
        counts += np.bincount(ids[chunk][keep[chunk]], minlength=len(counts))
    return counts
