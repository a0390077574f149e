"""MovieLens: 100K from the wheel of ``recbole`` (unpacked or not), and all sizes from GroupLens' own archives.

Its rows may not be redistributed: they are read where they are and never copied elsewhere than into a workspace.
"""

import csv
import io
import re
import zipfile
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from gream_ext.data.records import ItemRecord, item_record
from gream_ext.data.sources import Source
from gream_ext.errors import GreamError

IN_THE_WHEEL = "recbole/dataset_example/ml-100k/"
FOLDERS = ("", "ml-100k", "dataset_example/ml-100k", IN_THE_WHEEL)
YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")
# u.item's flags, in their order.
GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip


def _recbole(row: Sequence[str]) -> dict[str, Any]:
    item, title, year, genres = row
    return {"item_id": item, "title": title, "categories": genres.split(), "year": year}


def _flagged(row: Sequence[str]) -> dict[str, Any]:
    """100K's ``id|title (year)|date|video date|url|19 flags``."""
    item, title, date, _, _, *flags = row
    genres = [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"]
    return {"item_id": item, "title": title.removesuffix(f"({date[-4:]})"), "categories": genres, "year": date[-4:]}


def _film(row: Sequence[str]) -> dict[str, Any]:
    item, title, genres = row
    found = YEAR.search(title)
    listed = [] if genres == "(no genres listed)" else [genre for genre in genres.split("|") if genre]
    name = title[: found.start()] if found else title
    return {"item_id": item, "title": name, "categories": listed, "year": found[1] if found else None}


class Edition(NamedTuple):
    """Two files, and how they are written."""

    ratings: str
    movies: str
    header: bool
    separator: str
    """Of the ratings; what is apart by ``::`` has empty columns between."""
    columns: tuple[int, int, int]
    """User, item and time in the ratings."""
    movie_separator: str
    fields: int
    """Of a line of the movies."""
    film: Callable[[Sequence[str]], dict[str, Any]]


EDITIONS = (
    Edition("ml-100k.inter", "ml-100k.item", True, "\t", (0, 1, 3), "\t", 4, _recbole),
    Edition("u.data", "u.item", False, "\t", (0, 1, 3), "|", 5 + len(GENRES), _flagged),
    Edition("ratings.dat", "movies.dat", False, ":", (0, 2, 6), "::", 3, _film),
    Edition("ratings.csv", "movies.csv", True, ",", (0, 1, 3), ",", 3, _film),
)
"""100K as RecBole and as GroupLens have it; 1M and 10M; 20M, 25M, 32M and latest."""


def files(path: Path) -> list[Path]:
    """The wheel, or the two files of the folder ``path`` (or of ``ml-100k`` in it)."""
    if path.is_file():
        return [path]
    for folder in FOLDERS:
        for edition in EDITIONS:
            found = [path / folder / edition.ratings, path / folder / edition.movies]
            if all(file.is_file() for file in found):
                return found
    pairs = ", ".join(f"{edition.ratings} and {edition.movies}" for edition in EDITIONS)
    raise GreamError(f"--path {path} is neither the recbole wheel nor a folder with one of the pairs {pairs}")


def has_reviews(path: Path) -> bool:
    return False


def read(path: Path, ignored: Sequence[str]) -> Source:
    """Open interactions with their timestamps, and titles, years and genres."""
    found = files(path)
    ratings: Path | bytes = found[0]
    if len(found) == 1:
        edition, name = EDITIONS[0], f"{path}:{IN_THE_WHEEL}{EDITIONS[0].ratings}"
        ratings, movies = (_from_wheel(path, member) for member in edition[:2])
    else:
        edition, name = next(one for one in EDITIONS if one.ratings == found[0].name), str(found[0])
        movies = found[1].read_bytes()

    def interactions() -> pl.DataFrame:
        try:
            frame = pl.read_csv(
                io.BytesIO(ratings) if isinstance(ratings, bytes) else ratings, separator=edition.separator,
                has_header=False, skip_rows=int(edition.header), columns=list(edition.columns), infer_schema=False,
            )  # fmt: skip
        except (pl.exceptions.PolarsError, ValueError) as error:
            raise GreamError(f"{name} is not MovieLens': {str(error).splitlines()[0]}") from None
        return frame.rename(dict(zip(frame.columns, ("user_id", "item_id", "timestamp"), strict=True)))

    def items(wanted: Container[str]) -> Iterator[tuple[str, ItemRecord]]:
        for line, row in enumerate(_rows(movies, edition.movie_separator), start=1):
            where = f"{edition.movies} line {line}"
            if len(row) != edition.fields:
                raise GreamError(f"{where}: {len(row)} fields, not {edition.fields}: this is not MovieLens'")
            if line > edition.header:
                yield where, item_record(edition.film(row), where, ignored)

    first = 1 + edition.header
    return Source(interactions, items, name, lambda row: f"{name} line {row + first}")


def _from_wheel(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(IN_THE_WHEEL + name)
    except (zipfile.BadZipFile, KeyError):
        raise GreamError(f"{path} is not the recbole wheel: it has no {IN_THE_WHEEL}{name}") from None


def _rows(content: bytes, separator: str) -> Iterator[list[str]]:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:  # the older editions
        text = content.decode("latin-1")
    # Not by str.splitlines, which also splits at characters that Latin-1 text may hold.
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return csv.reader(lines) if separator == "," else (line.split(separator) for line in lines)
