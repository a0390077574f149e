"""User and item ids in little memory: millions of them repeat."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

CHUNK = 100_000


def compact(interactions: pl.DataFrame) -> pl.DataFrame:
    """The same interactions with ``user_id`` and ``item_id`` as Categorical: 4 bytes an id instead of 16 and more."""
    # Categories of this table alone: polars keeps those of the plain Categorical type for as long as the process lives.
    return interactions.with_columns(
        pl.col(column).cast(pl.Categorical(pl.Categories.random()))
        for column in ("user_id", "item_id")
        if not isinstance(interactions.schema[column], pl.Categorical)
    )


def compact_rows(
    rows: Iterable[tuple[Any, ...]], schema: Mapping[str, Any], ids: Sequence[str] = ("user_id", "item_id")
) -> pl.DataFrame:
    """A stream of rows as a table, its ``ids`` as Categorical; only `CHUNK` rows are ever Python objects."""
    kinds = {name: pl.Categorical(pl.Categories.random()) if name in ids else kind for name, kind in schema.items()}
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
        column = column.cast(pl.Categorical(pl.Categories.random()))
    physical = column.to_physical().to_numpy()
    if not len(physical):
        return physical
    # By chunks: numpy makes int64 of everything that it uses as an index.
    chunks = [slice(start, start + CHUNK) for start in range(0, len(physical), CHUNK)]
    first = np.full(int(physical.max()) + 1, len(physical), dtype=np.int64)
    for chunk in reversed(chunks):
        part = physical[chunk]
        first[part[::-1]] = chunk.start + np.arange(len(part) - 1, -1, -1)  # the last write of an id is its first row
    number = np.empty(len(first), dtype=np.uint32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.uint32)
    found = np.empty(len(physical), dtype=np.uint32)
    for chunk in chunks:
        found[chunk] = number[physical[chunk]]
    return found
