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
from gream_ext.data.records import ItemRecord, identity, item_record
from gream_ext.data.sources import Review, Source, review
from gream_ext.data.times import whole_times
from gream_ext.errors import GreamError
from gream_ext.progress import progress

ENDING = re.compile(r"\.(jsonl?|csv)(\.gz)?$")
ITEM_ID = re.compile(rb"""["'](?:parent_)?asin["']: ?["']([^"']*)["']""")
MARKS = {"parent_asin": 2023, "helpful": 2014, "verified": 2018}
"""Fields by which an edition is known."""


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
        places = [path.parent / f"meta_{category}{ending}{gz}" for ending in (".json", ".jsonl") for gz in (".gz", "")]
        if items := [place for place in places if place.is_file()]:
            return [path, items[0]]
        raise GreamError(f"{path} has no file of items beside it: put {places[0].name} there")

    def has_reviews(self, path: Path) -> bool:
        """Whether the file has the reviews' text: a .csv has ratings only."""
        return ".csv" not in self.files(path)[0].suffixes

    def read(self, path: Path, ignored: Sequence[str]) -> Source:
        """Open both files; of the items, attributes whose name is in ``ignored`` are passed over."""
        reviews, about = self.files(path)
        table = ".csv" in reviews.suffixes
        return Source(
            interactions=lambda: (self._ratings if table else self._interactions)(reviews),
            items=lambda wanted: self._items(about, wanted, ignored),
            name=str(reviews),
            row_name=lambda row: f"{reviews} line {row + (2 if table else 1)}",
            reviews=None if table else (lambda: self._reviews(reviews)),
            repeated="first",
        )

    def _lines(self, path: Path, doing: str) -> Iterator[tuple[str, dict[str, Any], str, str]]:
        """Name, fields, user and item of each line."""
        lines = json_lines(path, literals=self.year == 2014)
        for where, fields in progress(lines, desc=doing, unit=" lines", leave=False):
            for column in (self.user, self.item):
                if column not in fields:
                    raise GreamError(f"{where}: no {column!r}{self._hint(fields)}")
            yield where, fields, *(identity(fields[column], column, where) for column in (self.user, self.item))

    def _interactions(self, path: Path) -> pl.DataFrame:
        def rows() -> Iterator[tuple[str, str, int, int]]:
            for where, fields, user, item in self._lines(path, "interactions"):
                ticks = fields.get(self.time)
                if not isinstance(ticks, int) or isinstance(ticks, bool):
                    raise GreamError(f"{where}: {self.time} is {ticks!r}, not a whole number{self._hint(fields)}")
                yield user, item, *divmod(ticks, self.ticks)

        kinds = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "position": pl.Int64}
        return compact_rows(rows(), kinds)

    def _ratings(self, path: Path) -> pl.DataFrame:
        names = {self.user: "user_id", self.item: "item_id", self.time: "timestamp"}
        frame = read_delimited(path, tuple(names), tuple(names)).rename(names).select(names.values())
        frame, ticks = whole_times(frame, lambda row: f"{path} line {row + 2}"), pl.col("timestamp")
        return frame.with_columns(timestamp=ticks // self.ticks, position=ticks % self.ticks)

    def _reviews(self, path: Path) -> Iterator[Review]:
        for where, fields, user, item in self._lines(path, "reviews"):
            try:
                heading, text = (plain(fields.get(name)) or "" for name in (self.heading, self.text))
            except ValueError as error:
                raise GreamError(f"{where}: {error}") from None
            if heading and not text.startswith(heading):
                text = f"{heading}{'' if heading[-1] in '.!?' else '.'} {text}".strip()
            yield review(user, item, text, fields.get(self.rating), fields.get(self.helpful), where)

    def _items(self, path: Path, wanted: Container[str], ignored: Sequence[str]) -> Iterator[tuple[str, ItemRecord]]:
        def mentions(line: bytes) -> bool:
            ids = ITEM_ID.findall(line)
            return not ids or any(one.decode(errors="replace") in wanted for one in ids)

        for where, fields in json_lines(path, literals=self.year == 2014, wanted=mentions):
            try:
                known = ITEMS[self.year](fields)
            except (ValueError, TypeError) as error:
                raise GreamError(f"{where}: {error}{self._hint(fields)}") from None
            if known["item_id"] is None:
                raise GreamError(f"{where}: no {self.item!r}{self._hint(fields)}")
            yield where, item_record({name: value for name, value in known.items() if name not in ignored}, where)

    def _hint(self, fields: Mapping[str, Any]) -> str:
        """Which edition a line looks like, if another one."""
        other = next((year for mark, year in MARKS.items() if mark in fields), self.year)
        return f": this looks like --source amazon-{other}" if other != self.year else ""


AMAZON_2014 = Amazon(2014, "reviewerID", "asin", "unixReviewTime", 1, "overall", "summary", "reviewText", "helpful")
AMAZON_2018 = Amazon(2018, "reviewerID", "asin", "unixReviewTime", 1, "overall", "summary", "reviewText", "vote")
AMAZON_2023 = Amazon(2023, "user_id", "parent_asin", "timestamp", 1000, "rating", "title", "text", "helpful_vote")
