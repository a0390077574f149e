"""What a source of data looks like, and which sources we read.

A source is a module of this folder, or an object in one, with the three functions of `Reader`. To add one, write it
and name it in `READERS`.
"""

import importlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from gream_ext.data.records import ItemRecord, figure
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
LARGEST = 2**31 - 1
"""Stars and votes that reviews.parquet can hold."""


class Review(NamedTuple):
    """What a user wrote about an item, as it stands in the source."""

    user_id: str
    item_id: str
    text: str
    rating: float
    """Stars; 0 where the source has none."""
    helpful: int
    """Votes that it helped, less votes that it did not where the source counts those."""


def review(user_id: str, item_id: str, text: str, rating: Any, helpful: Any, where: str) -> Review:
    """A review; `GreamError`, which begins with ``where``, for figures that are none or too large."""
    try:
        stars, votes = figure(rating), net_votes(helpful)
    except (ValueError, TypeError, OverflowError):
        raise GreamError(f"{where}: rating or helpful is not a number") from None
    if not abs(stars) <= LARGEST or abs(votes) > LARGEST:
        raise GreamError(f"{where}: the rating or the helpful votes are no such number: {LARGEST} is the most")
    return Review(user_id, item_id, text, stars, votes)


def net_votes(value: Any) -> int:
    """Votes that a review helped, less votes that it did not where they are counted.

    Amazon has [helpful, all votes] in 2014, a text such as "1,204" in 2018.

    >>> net_votes([3, 4]), net_votes("1,204"), net_votes(None)
    (2, 1204, 0)
    """
    if isinstance(value, list):
        helpful, votes = value
        return 2 * int(helpful) - int(votes)
    return int(figure(value.replace(",", "") if isinstance(value, str) else value))


@dataclass(frozen=True)
class Source:
    """Interactions, items and reviews as they stand in the files.

    Items and reviews are streams: what is not needed of them is never kept.
    """

    interactions: "Callable[[], pl.DataFrame]"
    """Reads them: a row for each of the file, ``user_id`` and ``item_id`` (String or Categorical), and ``timestamp`` or
    ``position`` (which also breaks ties of timestamp) or both, spelled as in `gream_ext.data.times`."""
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
    def files(self, path: Path) -> Sequence[Path]:
        """The files that it reads."""
        ...

    def has_reviews(self, path: Path) -> bool: ...

    def read(self, path: Path, ignored: Sequence[str]) -> Source:
        """Open them; fields of the items in ``ignored`` are passed over."""
        ...


def reader(source: str) -> Reader:
    """The reader of a source; `GreamError` when there is none of that name."""
    if source not in READERS:
        raise GreamError(f"--source {source!r} is unknown: choose one of {', '.join(READERS)}")
    module, _, name = READERS[source].partition(":")
    found = importlib.import_module(module)
    return cast(Reader, getattr(found, name) if name else found)
