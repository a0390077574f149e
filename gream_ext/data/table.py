"""A plain table: a folder with ``interactions`` and, where there is text, ``items``.

``interactions.csv[.gz]`` (also .jsonl[.gz], .parquet) has ``user_id``, ``item_id`` and ``timestamp`` (seconds)
or ``position`` (place in the user's history). ``items.jsonl[.gz]`` (also .csv[.gz], .parquet) has ``item_id`` and
any of ``title``, ``brand``, ``categories``, ``description``; whatever else it has becomes an attribute.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.files import find, json_lines, read_delimited, records
from gream_ext.data.records import identity, item_record
from gream_ext.data.sources import Source
from gream_ext.errors import GreamError

TYPES = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64, "position": pl.Int64}
REQUIRED = ("user_id", "item_id")
INTERACTION_ENDINGS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
ITEM_ENDINGS = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")
CHUNK = 200_000


def files(path: Path) -> list[Path]:
    """The files of the folder ``path`` that are read."""
    if not path.is_dir():
        raise GreamError(f"--path {path} is not a folder: give the folder with interactions.csv in it")
    interactions = find(path, "interactions", INTERACTION_ENDINGS)
    if interactions is None:
        raise GreamError(f"{path} has no interactions.csv (nor .csv.gz, .jsonl, .jsonl.gz, .parquet)")
    items = find(path, "items", ITEM_ENDINGS)
    return [interactions, items] if items else [interactions]


def read(path: Path, ignored: Sequence[str]) -> Source:
    """Open the table in the folder ``path``; item fields in ``ignored`` are passed over."""
    interactions, *items = files(path)
    if ".csv" in interactions.suffixes:
        frame = read_delimited(interactions, TYPES, REQUIRED)
    elif ".jsonl" in interactions.suffixes:
        frame = _json_interactions(interactions)
    else:
        frame = _parquet_interactions(interactions)
    first = 1 if interactions.suffix == ".parquet" else 2 if ".csv" in interactions.suffixes else 1
    unit = "row" if interactions.suffix == ".parquet" else "line"
    return Source(
        interactions=frame,
        items=((where, item_record(fields, where, ignored)) for file in items for where, fields in _item_fields(file)),
        name=str(interactions),
        row_name=lambda row: f"{interactions} {unit} {row + first}",
    )


def _item_fields(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if ".jsonl" in path.suffixes:
        yield from json_lines(path)
    elif ".csv" in path.suffixes:
        for where, fields in records(path):
            paths = fields.get("categories")
            yield where, {**fields, "categories": paths.split("|") if paths else None}
    else:
        for number, row in enumerate(_parquet(path, ("item_id",)).iter_rows(named=True), start=1):
            yield f"{path} row {number}", row


def _json_interactions(path: Path) -> pl.DataFrame:
    chunks: list[pl.DataFrame] = []
    lines = json_lines(path)
    columns: list[str] = []
    for chunk in iter(lambda: list(itertools.islice(lines, CHUNK)), []):
        if not chunks:
            columns = [column for column in TYPES if column in chunk[0][1]]
            missing = [column for column in REQUIRED if column not in columns]
            if missing:
                raise GreamError(f"{chunk[0][0]}: no {missing[0]!r}")
        rows = {column: [_value(fields.get(column), column, where) for where, fields in chunk] for column in columns}
        chunks.append(pl.DataFrame(rows, schema={column: TYPES[column] for column in columns}))
    return pl.concat(chunks)


def _value(value: Any, column: str, where: str) -> Any:
    if column in REQUIRED:
        return identity(value, column, where)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise GreamError(f"{where}: {column} is {value!r}, not a whole number")


def _parquet_interactions(path: Path) -> pl.DataFrame:
    frame = _parquet(path, REQUIRED, TYPES)
    for column, kind in frame.schema.items():
        good = kind.is_integer() or (column in REQUIRED and kind == pl.String)
        if not good:
            wanted = "text or whole numbers" if column in REQUIRED else "whole numbers"
            raise GreamError(f"{path}: column {column!r} is {kind}, not {wanted}")
    return frame.cast({column: kind for column, kind in TYPES.items() if column in frame.columns})


def _parquet(path: Path, required: Sequence[str], wanted: Iterable[str] = ()) -> pl.DataFrame:
    try:
        present = list(pl.read_parquet_schema(path))
        missing = [column for column in required if column not in present]
        if missing:
            raise GreamError(f"{path} has no column {missing[0]!r}, only {', '.join(present)}: rename or add it")
        return pl.read_parquet(path, columns=[column for column in wanted if column in present] or None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise GreamError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
