"""What must hold for the interactions of any source, whichever reader they came through."""

import logging

import numpy as np
import polars as pl

from gream_ext.data.ids import codes
from gream_ext.data.sources import Source
from gream_ext.data.times import ORDER
from gream_ext.errors import GreamError

log = logging.getLogger(__name__)

MILLISECONDS = 100_000_000_000
"""Timestamps from here on are no seconds (the year 5138), but milliseconds or less."""


def check_interactions(interactions: pl.DataFrame, source: Source) -> pl.DataFrame:
    """The interactions without exact repetitions; `GreamError`, naming file and line, when they cannot be used.

    There must be some, and none may lack an id or its time. Times that cannot be right are warned of.
    """
    if not len(interactions):
        raise GreamError(f"{source.name} has no interactions")
    order = [column for column in ORDER if column in interactions.columns]
    if not order:
        raise GreamError(f"{source.name} has neither a column 'timestamp' nor 'position': the order would be unknown")
    for column in ("user_id", "item_id", *order):
        value = pl.col(column)
        empty = value.is_null() if column in order else value.is_null() | (value == "")
        rows = interactions.select(empty.arg_true().first()).to_series()
        if (row := rows.item()) is not None:
            raise GreamError(f"{source.row_name(row)}: {column} is empty: fill it in or delete the line")
    if "timestamp" in order:
        _warn_of_times(interactions["timestamp"], source)
    later = repetitions(interactions, order)
    if len(later):
        keep = np.ones(len(interactions), dtype=bool)
        keep[later] = False
        log.warning("%s: %d rows repeat an earlier one (user, item and time) and are left out", source.name, len(later))
        return interactions.filter(pl.Series(keep))
    return interactions


def _warn_of_times(times: pl.Series, source: Source) -> None:
    late = int((times >= MILLISECONDS).sum())
    if 0 < late < len(times):
        log.warning(
            "%s: %d of %d timestamps are milliseconds, the others seconds: the order is wrong, bring them to one unit",
            *(source.name, late, len(times)),
        )
    if len(times) > 1 and times.n_unique() == 1:
        log.warning(
            "%s: all timestamps are %d: the order is that of the rows; add a column 'position' if there is another",
            *(source.name, times[0]),
        )


def repetitions(interactions: pl.DataFrame, order: list[str]) -> np.ndarray:
    """Rows that repeat user, item and ``order`` columns of an earlier row."""
    pairs = codes(interactions["user_id"]).astype(np.uint64) << np.uint64(32)
    pairs |= codes(interactions["item_id"])
    arranged = np.argsort(pairs, kind="stable")
    same = pairs[arranged[1:]] == pairs[arranged[:-1]]
    # Pairs that occur several times are mostly bought again at another time: look closer at these rows only.
    rows = arranged[np.concatenate([[False], same]) | np.concatenate([same, [False]])].astype(np.uint32)
    del arranged, same
    keys = [pairs[rows], *(interactions[name].gather(rows).to_numpy() for name in order)]
    arranged = np.lexsort([rows, *keys])
    again = np.logical_and.reduce([key[arranged[1:]] == key[arranged[:-1]] for key in keys])
    return np.sort(rows[arranged[1:][again]])
