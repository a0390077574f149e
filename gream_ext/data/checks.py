"""What must hold for the interactions of any source, whichever reader they came through."""

import logging

import numpy as np
import polars as pl

from gream_ext.data.ids import codes
from gream_ext.data.sources import Source
from gream_ext.errors import GreamError

log = logging.getLogger(__name__)

ORDER = ("timestamp", "position")


def check_interactions(interactions: pl.DataFrame, source: Source) -> pl.DataFrame:
    """The interactions, or `GreamError`, naming file and line, when they cannot be used.

    There must be some, none may lack an id or its time, and none may stand there twice, unless the source says
    that the first of them counts: then the others are left out.
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
    earlier, later = repetitions(interactions, order)
    if len(later) and source.repeated == "first":
        keep = np.ones(len(interactions), dtype=bool)
        keep[later] = False
        log.info("%s: %d rows repeat an earlier one and are left out", source.name, len(later))
        return interactions.filter(pl.Series(keep))
    if len(later):
        first, second = int(earlier[0]), int(later[0])
        user, item = interactions["user_id"][second], interactions["item_id"][second]
        raise GreamError(
            f"{source.row_name(second)}: user {user!r}, item {item!r} at the same {order[0]} stands already in "
            f"{source.row_name(first).removeprefix(source.name).strip()}: delete one of them"
        )
    return interactions


def repetitions(interactions: pl.DataFrame, order: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Rows that repeat user, item and ``order`` columns of an earlier row: (that earlier row, the row), ascending."""
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
    later = np.flatnonzero(again) + 1
    found = np.stack([rows[arranged[later - 1]], rows[arranged[later]]])
    return tuple(found[:, np.argsort(found[1])])
