"""What must hold for the interactions of any source, whichever reader they came through."""

import logging

import polars as pl

from gream_ext.data.ids import compact
from gream_ext.data.sources import Source
from gream_ext.data.times import ORDER, whole_times
from gream_ext.errors import GreamError

log = logging.getLogger(__name__)

MILLISECONDS = 100_000_000_000
"""Timestamps from here on are no seconds (the year 5138), but milliseconds or less."""


def check_interactions(source: Source) -> pl.DataFrame:
    """The interactions with whole times, without exact repetitions; `GreamError`, naming file and line, for faults.

    There must be some, and none may lack an id or its time. Times that cannot be right are warned of.
    """
    interactions = compact(whole_times(source.interactions(), source.row_name))
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
        _warn_of_times(interactions["timestamp"], source.name)
    once = interactions.unique(["user_id", "item_id", *order], keep="first", maintain_order=True)
    if repeated := len(interactions) - len(once):
        log.warning("%s: %d rows repeat an earlier one (user, item and time) and are left out", source.name, repeated)
    return once


def _warn_of_times(times: pl.Series, name: str) -> None:
    late = int((times >= MILLISECONDS).sum())
    if 0 < late < len(times):
        said = "%d of %d timestamps are milliseconds, the others seconds: the order is wrong, bring them to one unit"
        log.warning(f"%s: {said}", name, late, len(times))
    if len(times) > 1 and times.n_unique() == 1:
        said = "all timestamps are %d: the order is that of the rows; add a column 'position' if there is another"
        log.warning(f"%s: {said}", name, times[0])
