"""A plain table: a folder with ``interactions`` and, where there is text, ``items`` and ``reviews``.

``interactions.csv[.gz]`` (also .jsonl[.gz], .parquet) has ``user_id``, ``item_id`` and ``timestamp`` (seconds)
or ``position`` (place in the user's history). ``items.jsonl[.gz]`` (also .csv[.gz], .parquet) has ``item_id`` and
any of ``title``, ``brand``, ``categories``, ``description``; whatever else it has becomes an attribute.
``reviews`` in any of these formats has ``user_id``, ``item_id``, ``text`` and any of ``rating``, ``helpful``.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.files import find, json_lines, not_whole, read_delimited, records, whole_number
from gream_ext.data.ids import compact_rows
from gream_ext.data.records import ItemRecord, identity, item_record
from gream_ext.data.sources import Review, Source, review
from gream_ext.errors import GreamError

TYPES = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "position": pl.Int64}
REQUIRED = ("user_id", "item_id")
REVIEW = ("user_id", "item_id", "text")
INTERACTION_ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
ITEM_ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
BATCH = 50_000
"""Rows of a Parquet file that are Python objects at once."""


def files(path: Path) -> list[Path]:
    """The files of the folder ``path`` that are read: interactions, then items and reviews where they are."""
    if not path.is_dir():
        raise GreamError(f"--path {path} is not a folder: give the folder with interactions.csv in it")
    interactions = find(path, "interactions", INTERACTION_ENDINGS)
    if interactions is None:
        raise GreamError(f"{path} has no interactions.csv (nor .csv.gz, .jsonl, .jsonl.gz, .parquet)")
    others = (find(path, stem, ITEM_ENDINGS) for stem in ("items", "reviews"))
    return [interactions, *(file for file in others if file)]


def read(path: Path, ignored: Sequence[str]) -> Source:
    """Open the table in the folder ``path``; item fields in ``ignored`` are passed over."""
    interactions, *others = files(path)
    named = {file.name.split(".")[0]: file for file in others}
    first = 2 if ".csv" in interactions.suffixes else 1
    unit = "row" if interactions.suffix == ".parquet" else "line"

    def items(wanted: Container[str]) -> Iterator[tuple[str, ItemRecord]]:
        for where, fields in _fields(named["items"], ("item_id",)) if "items" in named else ():
            paths = fields.get("categories")
            if isinstance(paths, str) and ".csv" in named["items"].suffixes:
                fields = {**fields, "categories": paths.split("|")}
            yield where, item_record(fields, where, ignored)

    return Source(
        interactions=lambda: _interactions(interactions),
        items=items,
        name=str(interactions),
        row_name=lambda row: f"{interactions} {unit} {row + first}",
        reviews=(lambda: _reviews(named["reviews"])) if "reviews" in named else None,
    )


def has_reviews(path: Path) -> bool:
    return find(path, "reviews", ITEM_ENDINGS) is not None


def _interactions(path: Path) -> pl.DataFrame:
    if ".csv" in path.suffixes:
        return read_delimited(path, TYPES, REQUIRED)
    return _json_interactions(path) if ".jsonl" in path.suffixes else _parquet_interactions(path)


def _fields(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if ".jsonl" in path.suffixes:
        yield from json_lines(path)
    elif ".csv" in path.suffixes:
        yield from records(path)
    else:
        rows = _scan(path, required)
        for start in range(0, rows.select(pl.len()).collect().item(), BATCH):
            batch = rows.slice(start, BATCH).collect()
            for number, row in enumerate(batch.iter_rows(named=True), start=start + 1):
                yield f"{path} row {number}", row


def _reviews(path: Path) -> Iterator[Review]:
    for where, fields in _fields(path, REVIEW):
        user, item = (identity(fields.get(column), column, where) for column in REQUIRED)
        text = fields.get("text")
        if text is not None and not isinstance(text, str):
            raise GreamError(f"{where}: text is {type(text).__name__}, not a text")
        try:
            rating, helpful = float(fields.get("rating") or 0), int(fields.get("helpful") or 0)
        except (ValueError, TypeError, OverflowError):
            raise GreamError(f"{where}: rating or helpful is not a number") from None
        yield review(user, item, text or "", rating, helpful, where)


def _json_interactions(path: Path) -> pl.DataFrame:
    columns = next(iter(json_lines(path)))[1].keys() & TYPES.keys()
    chosen = {column: kind for column, kind in TYPES.items() if column in columns or column in REQUIRED}
    rows = (tuple(_value(fields.get(column), column, where) for column in chosen) for where, fields in json_lines(path))
    return compact_rows(rows, chosen)


def _value(value: Any, column: str, where: str) -> Any:
    if column in REQUIRED:
        return identity(value, column, where)
    return None if value is None else whole_number(value, column, where)


def _parquet_interactions(path: Path) -> pl.DataFrame:
    frame = _scan(path, REQUIRED, TYPES)
    for column, kind in frame.collect_schema().items():
        good = kind.is_integer() or (column in REQUIRED and kind == pl.String)
        if not good:
            wrong = "not text or whole numbers" if column in REQUIRED else not_whole(column)
            raise GreamError(f"{path}: column {column!r} is {kind}, {wrong}")
    try:
        return frame.cast(
            {column: kind for column, kind in TYPES.items() if column in frame.collect_schema()}
        ).collect()
    except pl.exceptions.PolarsError as error:
        raise GreamError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None


def _scan(path: Path, required: Sequence[str], wanted: Iterable[str] = ()) -> pl.LazyFrame:
    """A Parquet file, not yet read; only its columns in ``wanted``, if any are."""
    try:
        present = list(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise GreamError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    missing = [column for column in required if column not in present]
    if missing:
        raise GreamError(f"{path} has no column {missing[0]!r}, only {', '.join(present)}: rename or add it")
    return pl.scan_parquet(path).select([column for column in present if not wanted or column in wanted])
