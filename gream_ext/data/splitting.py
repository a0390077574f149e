"""Leave-one-out: each user's last item is for the test, the one before it for validation."""

import numpy as np
import polars as pl

from gream_ext.data.ids import codes

SPLITS = ("train", "valid", "test")
SHORTEST = 3
"""Interactions a user must have, so that each split has one."""


def short_user(interactions: pl.DataFrame) -> tuple[int, str, int] | None:
    """The first user with less than `SHORTEST` interactions: its first row, its id, its interactions."""
    users = codes(interactions["user_id"])
    counts = np.bincount(users)
    short = np.flatnonzero(counts < SHORTEST)
    if not len(short):
        return None
    row = int(np.flatnonzero(users == short[0])[0])
    return row, interactions["user_id"][row], int(counts[short[0]])


def leave_one_out(interactions: pl.DataFrame) -> pl.DataFrame:
    """Order the interactions of each user and give each its ``position`` (from 0) and ``split``.

    The order is by ``timestamp`` where there is one, then by ``position`` where there is one, then by row.
    Users stand in the order of their first row. Every user must have at least `SHORTEST` interactions.
    Returns user_id, item_id, position, timestamp (null where the source has none), split.
    """
    users = codes(interactions["user_id"])
    keys = [interactions[name].to_numpy() for name in ("position", "timestamp") if name in interactions.columns]
    order = np.lexsort([*keys, users]).astype(np.uint32)
    del keys
    lengths = np.bincount(users).astype(np.int32)
    del users
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    position = np.arange(len(order), dtype=np.int32) - np.repeat(starts.astype(np.int32), lengths)
    left = np.repeat(lengths, lengths) - 1 - position  # interactions that follow
    split = (left == 0).astype(np.uint8) * 2 + (left == 1)
    del lengths, starts, left
    ordered = interactions[order]
    timestamp = ordered["timestamp"] if "timestamp" in ordered.columns else pl.lit(None, pl.Int64)
    return ordered.select(
        "user_id",
        "item_id",
        pl.Series("position", position),
        timestamp.alias("timestamp"),
        pl.Series("split", SPLITS, dtype=pl.Enum(SPLITS)).gather(split),
    )
