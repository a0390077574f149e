"""What a source of data looks like, and which sources we read.

A source is one module of this folder with two functions: ``files(path)``, the files it reads, and
``read(path, ignored)``, which opens them. To add one, write such a module and name it in `READERS`.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import polars as pl

from gream_ext.data.records import ItemRecord
from gream_ext.errors import GreamError

READERS = {"table": "gream_ext.data.table", "movielens": "gream_ext.data.movielens"}


@dataclass(frozen=True)
class Source:
    """Interactions and items as they stand in the files, one row a row of the file.

    ``interactions`` has ``user_id`` and ``item_id`` (String) and ``timestamp`` (seconds) or ``position``
    or both (Int64). ``items`` is a stream, to be read once: catalogues may be far larger than what is kept.
    """

    interactions: pl.DataFrame
    items: Iterable[tuple[str, ItemRecord]]
    """Each with the file and line it comes from, for messages."""
    name: str
    """The file of the interactions, for messages."""
    row_name: Callable[[int], str]
    """Names the n-th row (from 0) of the interactions: file and line."""


class Reader(Protocol):
    """The two functions of a source's module."""

    def files(self, path: Path) -> Sequence[Path]: ...

    def read(self, path: Path, ignored: Sequence[str]) -> Source: ...


def reader(source: str) -> Reader:
    """The module that reads a source; `GreamError` when there is none of that name."""
    if source not in READERS:
        raise GreamError(f"--source {source!r} is unknown: choose one of {', '.join(READERS)}")
    return cast(Reader, importlib.import_module(READERS[source]))
