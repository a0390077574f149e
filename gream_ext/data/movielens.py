"""MovieLens: 100K from the wheel of ``recbole`` (unpacked or not), and all sizes from GroupLens' own archives.

Its rows may not be redistributed: they are read where they are and never copied elsewhere than into a workspace.
"""

import io
import zipfile
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

import polars as pl

from gream_ext.data import movielens_later
from gream_ext.data.records import ItemRecord, item_record
from gream_ext.data.sources import Source
from gream_ext.errors import GreamError

IN_THE_WHEEL = "recbole/dataset_example/ml-100k/"
FOLDERS = ("", "ml-100k", "dataset_example/ml-100k", IN_THE_WHEEL)
# u.item's flags, in their order.
GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)


def files(path: Path) -> list[Path]:
    """The wheel, or the two files of the folder ``path`` (or of ``ml-100k`` in it)."""
    if path.is_file():
        return [path]
    for folder in FOLDERS:
        for pair in (("ml-100k.inter", "ml-100k.item"), ("u.data", "u.item"), *movielens_later.PAIRS):
            found = [path / folder / name for name in pair]
            if all(file.is_file() for file in found):
                return found
    raise GreamError(
        f"--path {path} is neither the recbole wheel nor a folder "
        "with ml-100k.inter and ml-100k.item, u.data and u.item, ratings.dat and movies.dat, "
        "or ratings.csv and movies.csv"
    )


def read(path: Path, ignored: Sequence[str]) -> Source:
    """Read interactions with their timestamps, and titles, years and genres."""
    found = files(path)
    if found[0].name.startswith("ratings."):
        return movielens_later.read(found[0], found[1], ignored)
    if len(found) == 1:
        ratings, movies = _from_wheel(path, "ml-100k.inter"), _from_wheel(path, "ml-100k.item")
        name = f"{path}:{IN_THE_WHEEL}ml-100k.inter"
    else:
        ratings, movies = (file.read_bytes() for file in found)
        name = str(found[0])
    plain = found[0].name == "u.data"

    def items(wanted: Container[str]) -> Iterator[tuple[str, ItemRecord]]:
        return _plain_items(movies, ignored) if plain else _atomic_items(movies, ignored)

    return Source(
        interactions=lambda: _ratings(ratings, plain, name),
        items=items,
        name=name,
        row_name=lambda row: f"{name} line {row + (1 if plain else 2)}",
    )


def has_reviews(path: Path) -> bool:
    return False


def _ratings(content: bytes, plain: bool, name: str) -> pl.DataFrame:
    try:
        frame = pl.read_csv(
            io.BytesIO(content),
            separator="\t",
            has_header=False,
            skip_rows=0 if plain else 1,
            new_columns=["user_id", "item_id", "rating", "timestamp"],
            schema_overrides=[pl.String, pl.String, pl.Float64, pl.Int64],
        )
    except pl.exceptions.PolarsError as error:
        raise GreamError(f"{name} is not MovieLens-100K: {str(error).splitlines()[0]}") from None
    return frame.drop("rating")


def _from_wheel(path: Path, name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as wheel:
            return wheel.read(IN_THE_WHEEL + name)
    except (zipfile.BadZipFile, KeyError):
        raise GreamError(f"{path} is not the recbole wheel: it has no {IN_THE_WHEEL}{name}") from None


def _atomic_items(movies: bytes, ignored: Sequence[str]) -> Iterator[tuple[str, ItemRecord]]:
    """RecBole's atomic file: a header with types, tabs, genres separated by blanks."""
    for line, row in _lines(movies, "utf-8")[1:]:
        where = f"ml-100k.item line {line}"
        item, title, year, genres = _fields(row, "\t", 4, where)
        fields = {"item_id": item, "title": title, "categories": genres.split(), "year": year}
        yield where, item_record(fields, where, ignored)


def _plain_items(movies: bytes, ignored: Sequence[str]) -> Iterator[tuple[str, ItemRecord]]:
    """GroupLens' u.item: Latin-1, ``id|title (year)|date|video date|url|19 flags``."""
    for line, row in _lines(movies, "latin-1"):
        where = f"u.item line {line}"
        item, title, date, _, _, *flags = _fields(row, "|", 5 + len(GENRES), where)
        fields = {
            "item_id": item,
            "title": title.removesuffix(f"({date[-4:]})").strip(),
            "categories": [genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1"],
            "year": date[-4:],
        }
        yield where, item_record(fields, where, ignored)


def _lines(content: bytes, encoding: str) -> list[tuple[int, str]]:
    """Numbered from 1. Not by str.splitlines, which also splits at characters that Latin-1 text may hold."""
    rows = content.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    return [(number, row.decode(encoding, errors="replace")) for number, row in enumerate(rows, start=1)]


def _fields(row: str, separator: str, count: int, where: str) -> list[str]:
    fields = row.split(separator)
    if len(fields) != count:
        raise GreamError(f"{where}: {len(fields)} fields, not {count}: this is not MovieLens-100K")
    return fields
