"""What a source of data looks like, and which sources we read.

A source is a module of this folder, or an object in one, with three functions: ``files(path)``, the files it
reads, ``has_reviews(path)``, whether there are reviews among them, and ``read(path, ignored)``, which opens them.
To add one, write it and name it in `READERS`.
"""

import importlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from gream_ext.data.records import ItemRecord
from gream_ext.errors import GreamError

if TYPE_CHECKING:
    import polars as pl

READERS = {
    "table": "gream_ext.data.table",
    "movielens": "gream_ext.data.movielens",
    "amazon-2014": "gream_ext.data.amazon:AMAZON_2014",
    "amazon-2018": "gream_ext.data.amazon:AMAZON_2018",
    "amazon-2023": "gream_ext.data.amazon:AMAZON_2023",
}


class Review(NamedTuple):
    """What a user wrote about an item, as it stands in the source."""

    user_id: str
    item_id: str
    text: str
    rating: float
    """Stars; 0 where the source has none."""
    helpful: int
    """Votes that it helped, less votes that it did not where the source counts those."""


LARGEST = 2**31 - 1


def review(user_id: str, item_id: str, text: str, rating: float, helpful: int, where: str) -> Review:
    """A review; `GreamError`, which begins with ``where``, for figures that reviews.parquet cannot hold."""
    if not abs(rating) <= LARGEST or abs(helpful) > LARGEST:
        raise GreamError(f"{where}: the rating or the helpful votes are no such number: {LARGEST} is the most")
    return Review(user_id, item_id, text, rating, helpful)


@dataclass(frozen=True)
class Source:
    """Interactions, items and reviews as they stand in the files.

    ``interactions`` has one row a row of its file: ``user_id`` and ``item_id`` (String or Categorical) and
    ``timestamp`` (seconds) or ``position`` (which also breaks ties of timestamp) or both (Int64, see
    `gream_ext.data.times`). Items and
    reviews are streams: what is not needed of them is never kept.
    """

    interactions: "Callable[[], pl.DataFrame]"
    """Reads them; nothing of them is kept but what the caller keeps."""
    items: Callable[[Container[str]], Iterable[tuple[str, ItemRecord]]]
    """Given the ids that are needed, items (at least the needed ones) with file and line, for messages."""
    name: str
    """The file of the interactions, for messages."""
    row_name: Callable[[int], str]
    """Names the n-th row (from 0) of the interactions: file and line."""
    reviews: Callable[[], Iterator[Review]] | None = None
    """Opens the stream of reviews, where the source has any."""
    repeated: Literal["refuse", "first"] = "refuse"
    """What to do about an item that stands there again and differs: an error, or keep the first."""


class Reader(Protocol):
    """The three functions of a source."""

    def files(self, path: Path) -> Sequence[Path]: ...

    def has_reviews(self, path: Path) -> bool: ...

    def read(self, path: Path, ignored: Sequence[str]) -> Source: ...


def reader(source: str) -> Reader:
    """The reader of a source; `GreamError` when there is none of that name."""
    if source not in READERS:
        raise GreamError(f"--source {source!r} is unknown: choose one of {', '.join(READERS)}")
    module, _, name = READERS[source].partition(":")
    found = importlib.import_module(module)
    return cast(Reader, getattr(found, name) if name else found)
