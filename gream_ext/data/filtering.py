"""Iterative k-core: what is left when rare users and items are dropped until nobody is rare."""

import numpy as np
import polars as pl

from gream_ext.data.ids import codes


def k_core(interactions: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest subset in which every user and every item has at least ``k`` interactions, rows in order.

    ``interactions`` has ``user_id`` and ``item_id``; repeated pairs count each time. ``k`` of 0 or 1 keeps all.
    """
    if k <= 1:
        return interactions
    keep = k_core_mask(codes(interactions["user_id"]), codes(interactions["item_id"]), k)
    return interactions if keep.all() else interactions.filter(pl.Series(keep))


def k_core_mask(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Which rows are in the k-core, bool [rows]; ``users`` and ``items`` are codes from 0, [rows].

    >>> k_core_mask(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), 2).tolist()
    [True, True, True, True, False]
    """
    rows = np.arange(len(users), dtype=np.uint32)
    while True:
        frequent_user = np.bincount(users[rows]) >= k
        frequent_item = np.bincount(items[rows]) >= k
        good = frequent_user[users[rows]] & frequent_item[items[rows]]
        if good.all():
            break
        rows = rows[good]
    keep = np.zeros(len(users), dtype=bool)
    keep[rows] = True
    return keep
