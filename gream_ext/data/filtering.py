"""Iterative k-core: what is left when rare users and items are dropped until nobody is rare."""

import numpy as np
import polars as pl

from gream_ext.data.ids import codes


def k_core(interactions: pl.DataFrame, k: int, user_least: int | None = None) -> pl.DataFrame:
    """The largest subset in which every user and every item has at least ``k`` interactions, rows in order.

    ``interactions`` has ``user_id`` and ``item_id``; repeated pairs count each time. Users need ``user_least``
    interactions, where that is given. Minima of 0 or 1 keep all.
    """
    user_least = k if user_least is None else user_least
    if max(k, user_least) <= 1 or interactions.is_empty():
        return interactions
    users, items = codes(interactions["user_id"]), codes(interactions["item_id"])
    keep = np.ones(len(users), dtype=bool)
    left = -1
    while left != np.count_nonzero(keep):
        left = int(np.count_nonzero(keep))
        for ids, least in ((users, user_least), (items, k)):
            frequent = np.bincount(ids[keep], minlength=int(ids.max()) + 1) >= least
            keep &= frequent[ids]
    return interactions if keep.all() else interactions.filter(pl.Series(keep))
