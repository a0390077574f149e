"""User and item ids in little memory: millions of them repeat."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

CHUNK = 100_000
"""Rows that are Python objects at once."""


def compact(interactions: pl.DataFrame) -> pl.DataFrame:
    """The same interactions with ``user_id`` and ``item_id`` as Categorical: 4 bytes an id instead of 16 and more."""
    return interactions.with_columns(
        pl.col(column).cast(_own_categories())
        for column in ("user_id", "item_id")
        if not isinstance(interactions.schema[column], pl.Categorical)
    )


def compact_rows(
    rows: Iterable[tuple[Any, ...]], schema: Mapping[str, Any], ids: Sequence[str] = ("user_id", "item_id")
) -> pl.DataFrame:
    """A stream of rows as a table, its ``ids`` as Categorical."""
    kinds = {name: _own_categories() if name in ids else kind for name, kind in schema.items()}
    stream = iter(rows)
    chunks = [pl.DataFrame(schema=kinds)]
    while part := list(itertools.islice(stream, CHUNK)):
        chunks.append(pl.DataFrame(part, schema=dict(schema), orient="row").cast(kinds))  # type: ignore[arg-type]
    return pl.concat(chunks)


def codes(column: pl.Series) -> np.ndarray:
    """Each id as a number, uint32 [rows], from 0 in the order of first appearance.

    >>> codes(pl.Series(["b", "a", "b"])).tolist()
    [0, 1, 0]
    """
    if not isinstance(column.dtype, pl.Categorical):
        column = column.cast(_own_categories())
    physical = column.to_physical().to_numpy()
    if not len(physical):
        return physical
    first = np.full(int(physical.max()) + 1, len(physical))
    first[physical[::-1]] = np.arange(len(physical) - 1, -1, -1)  # the last write of an id is its first row
    number = np.empty(len(first), dtype=np.uint32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.uint32)
    return number[physical]


def pairs(interactions: pl.DataFrame) -> np.ndarray:
    """User and item of each row as one number, uint64 [rows]: their `codes`, the user's above."""
    users, items = (codes(interactions[column]).astype(np.uint64) for column in ("user_id", "item_id"))
    return users << np.uint64(32) | items


def _own_categories() -> pl.Categorical:
    """Of one table alone: polars keeps those of the plain Categorical type for as long as the process lives."""
    return pl.Categorical(pl.Categories.random())
