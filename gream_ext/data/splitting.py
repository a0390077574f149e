"""Which interactions train, and which are held out: each user's last two, or all after a moment."""

import numpy as np
import polars as pl

from gream_ext.data.ids import codes, pairs
from gream_ext.errors import GreamError

SPLITS = ("train", "valid", "test", "context")
"""``context``, of the split by time alone, is neither trained on nor a target: it stands in targets' histories."""
SHORTEST = 3
"""Interactions of a user from which one each is held out for validation and test; shorter ones go into training."""


def leave_one_out(interactions: pl.DataFrame, rng: np.random.Generator | None = None) -> pl.DataFrame:
    """Each user's last interaction is for the test, the one before it for validation.

    Users with fewer than `SHORTEST` have training interactions only. Returns user_id, item_id, position (from 0),
    timestamp (null where the source has none) and split; users in the order of their first row, their interactions
    by time (`by_time`).
    """
    order, position, lengths = by_time(interactions, rng)
    left = lengths - 1 - position  # interactions that follow
    split = ((left == 0) * np.uint8(2) + (left == 1)) * (lengths >= SHORTEST)
    return _table(interactions, order, position, split)


def split_by_time(interactions: pl.DataFrame, held_out: float, rng: np.random.Generator | None = None) -> pl.DataFrame:
    """One moment for all users: before it training, after it the last ``held_out`` share of all, half of it the test.

    Of what a user has in the validation period, and in the test period, the last interaction is the target, the rest
    context; so is a target with nothing before it. Returns the columns of `leave_one_out`. `GreamError` without
    timestamps.
    """
    if "timestamp" not in interactions.columns:
        raise GreamError("--split time needs timestamps: the interactions have positions alone")
    order, position, _ = by_time(interactions, rng)
    time = interactions["timestamp"].to_numpy()
    valid_from, test_from = np.quantile(time, [1 - held_out, 1 - held_out / 2], method="higher")
    period = (time[order] >= valid_from).astype(np.uint8) + (time[order] >= test_from)
    last = np.append((period[1:] != period[:-1]) | (position[1:] == 0), True)  # of its user and period
    split = np.where((period > 0) & ~(last & (position > 0)), SPLITS.index("context"), period)
    return _table(interactions, order, position, split)


def by_time(
    interactions: pl.DataFrame, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows user by user (in the order of their first rows), each user's by time.

    Time is ``timestamp``, then ``position``, as far as there are such columns, then the row, or with ``rng`` chance.
    Of each of these rows, in this order, its position in the user's history from 0 and the history's length, int32.
    """
    users = codes(interactions["user_id"])
    keys = [interactions[name].to_numpy() for name in ("position", "timestamp") if name in interactions.columns]
    if rng is not None:
        keys.insert(0, rng.permutation(len(users)))
    order = np.lexsort([*keys, users]).astype(np.uint32)
    lengths = np.bincount(users).astype(np.int32)
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    position = np.arange(len(users), dtype=np.int32) - np.repeat(starts, lengths)
    return order, position, np.repeat(lengths, lengths)


def merge_repeats(interactions: pl.DataFrame, keep: str, rng: np.random.Generator | None = None) -> pl.DataFrame:
    """Of each user's interactions with one item the ``first`` or ``last`` (`by_time`); rows in order."""
    order = by_time(interactions, rng)[0]
    order = order if keep == "first" else order[::-1]
    _, kept = np.unique(pairs(interactions)[order], return_index=True)
    return interactions[np.sort(order[kept])]


def _table(interactions: pl.DataFrame, order: np.ndarray, position: np.ndarray, split: np.ndarray) -> pl.DataFrame:
    ordered = interactions[order]
    timestamp = ordered["timestamp"] if "timestamp" in ordered.columns else pl.lit(None, pl.Int64)
    return ordered.select(
        "user_id", "item_id", pl.Series("position", position), timestamp.alias("timestamp"),
        pl.Series("split", SPLITS, dtype=pl.Enum(SPLITS)).gather(split.astype(np.uint32)),
    )  # fmt: skip
