"""MovieLens 1M and 10M (``ratings.dat``, fields apart by ``::``) and 20M, 25M, 32M, latest (``ratings.csv``)."""

import re
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import polars as pl

from gream_ext.data.files import opened, read_delimited, records
from gream_ext.data.records import ItemRecord, item_record
from gream_ext.data.sources import Source
from gream_ext.errors import GreamError

PAIRS = (("ratings.dat", "movies.dat"), ("ratings.csv", "movies.csv"))
YEAR = re.compile(r"\s*\((\d{4})(?:[-–]\d{0,4})?\)\s*$")


def read(ratings: Path, movies: Path, ignored: Sequence[str]) -> Source:
    """Open one of these editions: interactions with their timestamps; titles, years and genres."""
    dat = ratings.suffix == ".dat"

    def items(wanted: Container[str]) -> Iterator[tuple[str, ItemRecord]]:
        for where, item, title, genres in _dat_movies(movies) if dat else _csv_movies(movies):
            name, year = year_apart(title)
            known = [] if genres == "(no genres listed)" else [genre for genre in genres.split("|") if genre]
            fields = {"item_id": item, "title": name, "categories": known, "year": year}
            yield where, item_record(fields, where, ignored)

    return Source(
        interactions=lambda: _dat_ratings(ratings) if dat else _csv_ratings(ratings),
        items=items,
        name=str(ratings),
        row_name=lambda row: f"{ratings} line {row + (1 if dat else 2)}",
    )


def year_apart(title: str) -> tuple[str, str | None]:
    """A title without the year in brackets that ends it, and that year.

    >>> year_apart("Toy Story (1995)")
    ('Toy Story', '1995')
    """
    found = YEAR.search(title)
    return (title[: found.start()].strip(), found[1]) if found else (title.strip(), None)


def _csv_ratings(path: Path) -> pl.DataFrame:
    types = {"userId": pl.String, "movieId": pl.String, "timestamp": pl.Int64}
    return read_delimited(path, types, tuple(types)).rename({"userId": "user_id", "movieId": "item_id"})


def _csv_movies(path: Path) -> Iterator[tuple[str, str, str, str]]:
    for where, fields in records(path):
        if not {"movieId", "title", "genres"} <= fields.keys():
            raise GreamError(f"{where}: this is not MovieLens' movies.csv with movieId, title and genres")
        yield where, fields["movieId"] or "", fields["title"] or "", fields["genres"] or ""


def _dat_ratings(path: Path) -> pl.DataFrame:
    try:
        # A separator has one character here: what stands between the two colons is an empty column.
        frame = pl.read_csv(path, separator=":", has_header=False, columns=[0, 2, 6], infer_schema=False)
        return frame.rename(dict(zip(frame.columns, ("user_id", "item_id", "timestamp"), strict=True))).cast(
            {"timestamp": pl.Int64}
        )
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise GreamError(f"{path} is not MovieLens' ratings.dat: {str(error).splitlines()[0]}") from None


def _dat_movies(path: Path) -> Iterator[tuple[str, str, str, str]]:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            fields = _decoded(line.rstrip(b"\r\n")).split("::")
            if len(fields) != 3:
                raise GreamError(f"{where}: {len(fields)} fields, not 3: this is not MovieLens' movies.dat")
            yield where, *fields  # type: ignore[misc]


def _decoded(line: bytes) -> str:
    """10M is in UTF-8, 1M in Latin-1."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")
