"""Amazon Reviews of 2014, 2018 and 2023 (McAuley lab), as they are downloaded: a file of reviews and one of items.

    2014  reviews_Beauty_5.json.gz               meta_Beauty.json.gz   (Python literals)
    2018  Musical_Instruments_5.json.gz          meta_Musical_Instruments.json.gz
    2023  All_Beauty.jsonl.gz, All_Beauty.csv.gz meta_All_Beauty.jsonl.gz

Both files are read line by line; of the reviews only user, item and time are kept, and their text is streamed once
more when the split is known (`gream_ext.data.reviews`).
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.amazon_items import ITEMS, plain
from gream_ext.data.files import read_delimited
from gream_ext.data.ids import compact_rows
from gream_ext.data.json_files import json_lines
from gream_ext.data.records import ItemRecord, figure, identity, item_record, whole_number
from gream_ext.data.sources import Review, Source, review
from gream_ext.errors import GreamError
from gream_ext.progress import progress

ENDING = re.compile(r"\.(jsonl?|csv)(\.gz)?$")
ITEM_ID = re.compile(rb"""["'](?:parent_)?asin["']: ?["']([^"']*)["']""")
SCHEMA = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "position": pl.Int64}


@dataclass(frozen=True)
class Amazon:
    """One edition: how its files name what we read. A reader (`gream_ext.data.sources.Reader`)."""

    year: int
    user: str
    item: str
    time: str
    ticks: int
    """Units of ``time`` in a second."""
    rating: str
    heading: str
    text: str
    helpful: str

    def files(self, path: Path) -> list[Path]:
        """The file of the reviews and the one of the items: in the folder ``path``, or ``path`` and its neighbour."""
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if file.is_file() and ENDING.search(file.name))
            reviews = [file for file in found if not file.name.startswith("meta_")]
            if len(reviews) != 1:
                here = ", ".join(file.name for file in reviews[:4]) or "none"
                raise GreamError(
                    f"--path {path} must have one file of reviews (.json, .jsonl, .csv, with or without .gz) and its "
                    f"meta_ file, and has {here}: give --path the file of reviews itself"
                )
            path = reviews[0]
        elif not path.is_file():
            raise GreamError(f"--path {path} is neither a folder nor a file: give the file of the reviews")
        category = ENDING.sub("", path.name).removeprefix("reviews_").removesuffix("_5")
        names = [f"meta_{category}{ending}{gz}" for ending in (".json", ".jsonl") for gz in (".gz", "")]
        for name in names:
            if (path.parent / name).is_file():
                return [path, path.parent / name]
        raise GreamError(f"{path} has no file of items beside it: put {names[0]} there")

    def has_reviews(self, path: Path) -> bool:
        """Whether the file has the reviews' text: a .csv has ratings only."""
        return ".csv" not in self.files(path)[0].suffixes

    def read(self, path: Path, ignored: Sequence[str]) -> Source:
        """Open both files; of the items, attributes whose name is in ``ignored`` are passed over."""
        reviews, about = self.files(path)
        table = ".csv" in reviews.suffixes
        return Source(
            interactions=lambda: self._ratings(reviews) if table else compact_rows(self._rows(reviews), SCHEMA),
            items=lambda wanted: self._items(about, wanted, ignored),
            name=str(reviews),
            row_name=lambda row: f"{reviews} line {row + (2 if table else 1)}",
            reviews=None if table else (lambda: self._reviews(reviews)),
            repeated="first",
        )

    def _lines(self, path: Path, doing: str) -> Iterator[tuple[str, dict[str, Any]]]:
        lines = json_lines(path, literals=self.year == 2014)
        return iter(progress(lines, desc=doing, unit=" lines", leave=False))

    def _rows(self, path: Path) -> Iterator[tuple[str, str, int, int]]:
        for where, fields in self._lines(path, "interactions"):
            ticks = fields.get(self.time)
            if not isinstance(ticks, int) or isinstance(ticks, bool):
                raise GreamError(f"{where}: {self.time} is {ticks!r}, not a whole number{self._hint(fields)}")
            seconds, rest = divmod(whole_number(ticks, self.time, where), self.ticks)
            yield self._id(fields, self.user, where), self._id(fields, self.item, where), seconds, rest

    def _ratings(self, path: Path) -> pl.DataFrame:
        types = {self.user: pl.String, self.item: pl.String, self.time: pl.Int64}
        time = pl.col(self.time)
        return read_delimited(path, types, tuple(types)).select(
            pl.col(self.user).alias("user_id"),
            pl.col(self.item).alias("item_id"),
            (time // self.ticks).alias("timestamp"),
            (time % self.ticks).alias("position"),
        )

    def _reviews(self, path: Path) -> Iterator[Review]:
        for where, fields in self._lines(path, "reviews"):
            try:
                heading, text = (plain(fields.get(name)) or "" for name in (self.heading, self.text))
            except ValueError as error:
                raise GreamError(f"{where}: {error}") from None
            if heading and not text.startswith(heading):
                text = f"{heading}{'' if heading[-1] in '.!?' else '.'} {text}".strip()
            try:
                rating, helpful = figure(fields.get(self.rating)), net_votes(fields.get(self.helpful))
            except (ValueError, TypeError, OverflowError):
                raise GreamError(f"{where}: {self.rating} or {self.helpful} is not a number") from None
            user, item = (self._id(fields, column, where) for column in (self.user, self.item))
            yield review(user, item, text, rating, helpful, where)

    def _items(self, path: Path, wanted: Container[str], ignored: Sequence[str]) -> Iterator[tuple[str, ItemRecord]]:
        def mentions(line: bytes) -> bool:
            ids = ITEM_ID.findall(line)
            return not ids or any(one.decode(errors="replace") in wanted for one in ids)

        lines = json_lines(path, literals=self.year == 2014, wanted=mentions)
        for where, fields in lines:
            try:
                known = ITEMS[self.year](fields)
            except (ValueError, TypeError) as error:
                raise GreamError(f"{where}: {error}{self._hint(fields)}") from None
            if known["item_id"] is None:
                raise GreamError(f"{where}: no {self.item!r}{self._hint(fields)}")
            yield where, item_record({name: value for name, value in known.items() if name not in ignored}, where)

    def _id(self, fields: Mapping[str, Any], column: str, where: str) -> str:
        if column not in fields:
            raise GreamError(f"{where}: no {column!r}{self._hint(fields)}")
        return identity(fields[column], column, where)

    def _hint(self, fields: Mapping[str, Any]) -> str:
        """Which edition a line looks like, if another one."""
        marks = {"parent_asin": 2023, "helpful": 2014, "verified": 2018}
        other = next((year for mark, year in marks.items() if mark in fields), self.year)
        return f": this looks like --source amazon-{other}" if other != self.year else ""


def net_votes(value: Any) -> int:
    """Votes that a review helped, less votes that it did not where the edition counts them.

    2014 has [helpful, all votes], 2018 a text such as "1,204", 2023 a number.

    >>> net_votes([3, 4]), net_votes("1,204"), net_votes(None)
    (2, 1204, 0)
    """
    if isinstance(value, list):
        helpful, votes = value
        return 2 * int(helpful) - int(votes)
    return int(figure(value.replace(",", "") if isinstance(value, str) else value))


AMAZON_2014 = Amazon(2014, "reviewerID", "asin", "unixReviewTime", 1, "overall", "summary", "reviewText", "helpful")
AMAZON_2018 = Amazon(2018, "reviewerID", "asin", "unixReviewTime", 1, "overall", "summary", "reviewText", "vote")
AMAZON_2023 = Amazon(2023, "user_id", "parent_asin", "timestamp", 1000, "rating", "title", "text", "helpful_vote")
