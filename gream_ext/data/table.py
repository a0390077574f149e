"""A plain table: a folder with ``interactions`` and, where there is text, ``items`` and ``reviews``.

``interactions`` has ``user_id``, ``item_id`` and ``timestamp`` (`gream_ext.data.times`) or ``position`` (place in the
user's history). ``items`` has ``item_id`` and any of ``title``, ``brand``, ``categories``, ``description``; whatever
else it has becomes an attribute. ``reviews`` has ``user_id``, ``item_id``, ``text`` and any of ``rating``, ``helpful``.
Each may be .csv, .tsv (or apart by ;), .jsonl, .json, all of them with .gz, or .parquet, a file or a folder of them;
RecBole's NAME.inter and NAME.item are read as well.
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.files import TYPED, find, read_delimited, records
from gream_ext.data.ids import compact_rows
from gream_ext.data.json_files import json_lines, json_rows
from gream_ext.data.records import ItemRecord, identity, item_record, missing
from gream_ext.data.sources import Review, Source, review
from gream_ext.errors import GreamError

IDS = ("user_id", "item_id")
COLUMNS = (*IDS, "timestamp", "position")
ENDINGS = (*(f".{kind}{gz}" for kind in ("csv", "tsv", "jsonl", "json") for gz in ("", ".gz")), ".parquet")
RECBOLE = {"interactions": ".inter", "items": ".item"}
LISTS = ("categories", "category", "class", "genre", "genres")
"""Fields of RecBole's items that are lists, apart by blanks."""
BATCH = 50_000
"""Rows of a Parquet file that are Python objects at once."""


def files(path: Path) -> list[Path]:
    """The files of the folder ``path`` that are read: interactions, then items and reviews where they are."""
    return list(_named(path).values())


def has_reviews(path: Path) -> bool:
    return find(path, "reviews", ENDINGS) is not None


def read(path: Path, ignored: Sequence[str]) -> Source:
    """Open the table in the folder ``path``; item fields in ``ignored`` are passed over."""
    named = _named(path)
    interactions = named["interactions"]
    first = 2 if _is_text(interactions) else 1
    unit = "line" if _is_text(interactions) or ".jsonl" in interactions.suffixes else "row"

    def items(wanted: Container[str]) -> Iterator[tuple[str, ItemRecord]]:
        for where, fields in _fields(named["items"], ("item_id",)) if "items" in named else ():
            yield where, item_record(_as_written(fields, named["items"]), where, ignored)

    return Source(
        interactions=lambda: _interactions(interactions),
        items=items,
        name=str(interactions),
        row_name=lambda row: f"{interactions} {unit} {row + first}",
        reviews=(lambda: _reviews(named["reviews"])) if "reviews" in named else None,
    )


def _named(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        raise GreamError(f"--path {path} is not a folder: give the folder with interactions.csv in it")
    found = {}
    for stem in ("interactions", "items", "reviews"):
        file = find(path, stem, ENDINGS)
        if file is None and stem in RECBOLE:
            atomic = sorted(path.glob(f"*{RECBOLE[stem]}"))
            if len(atomic) > 1:
                raise GreamError(f"{path} has both {atomic[0].name} and {atomic[1].name}: delete or rename one")
            file = atomic[0] if atomic else None
        if file is not None:
            found[stem] = file
    if "interactions" not in found:
        raise GreamError(f"{path} has no interactions.csv (nor {', '.join(ENDINGS[1:])}, nor a file .inter)")
    return found


def _is_text(path: Path) -> bool:
    return path.suffix in TYPED or bool({".csv", ".tsv"} & set(path.suffixes))


def _is_json(path: Path) -> bool:
    return bool({".json", ".jsonl"} & set(path.suffixes))


def _as_written(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """Lists and names in the spelling of text tables and of RecBole's."""
    if path.suffix in TYPED:
        title = next((name for name in fields if name.endswith("title")), "title")
        fields = {"title" if name == title else name: value for name, value in fields.items()}
        lists = {name: value for name in LISTS if (value := fields.get(name)) and "'" not in value and "|" not in value}
        fields |= {name: value.split() for name, value in lists.items()}
        fields["categories"] = next((fields.pop(name) for name in LISTS if fields.get(name)), None)
    paths = fields.get("categories")
    if _is_text(path) and isinstance(paths, str) and not paths.startswith("["):
        return {**fields, "categories": paths.split("|")}
    return fields


def _interactions(path: Path) -> pl.DataFrame:
    if _is_text(path):
        return read_delimited(path, COLUMNS, IDS)
    if not _is_json(path):
        return _parquet_interactions(path)
    rows = (
        (*(identity(fields.get(column), column, where) for column in IDS), *map(_text, map(fields.get, COLUMNS[2:])))
        for where, fields in _fields(path, IDS)
    )
    frame = compact_rows(rows, dict.fromkeys(COLUMNS, pl.String), IDS)
    return frame.select(column for column in frame if column.name in IDS or column.null_count() < len(column))


def _text(value: Any) -> str | None:
    return None if missing(value) else str(value)


def _fields(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    if _is_json(path):
        yield from json_lines(path) if ".jsonl" in path.suffixes else json_rows(path)
    elif _is_text(path):
        yield from records(path, required)
    else:
        rows = _scan(path, required)
        for start in range(0, rows.select(pl.len()).collect().item(), BATCH):
            batch = rows.slice(start, BATCH).collect()
            for number, row in enumerate(batch.iter_rows(named=True), start=start + 1):
                yield f"{path} row {number}", row


def _reviews(path: Path) -> Iterator[Review]:
    for where, fields in _fields(path, (*IDS, "text")):
        text = None if missing(fields.get("text")) else fields["text"]
        if text is not None and not isinstance(text, str):
            raise GreamError(f"{where}: text is {type(text).__name__}, not a text")
        user, item = (identity(fields.get(column), column, where) for column in IDS)
        yield review(user, item, text or "", fields.get("rating"), fields.get("helpful"), where)


def _parquet_interactions(path: Path) -> pl.DataFrame:
    frame = _scan(path, IDS)
    schema = frame.collect_schema()
    present = [column for column in COLUMNS if column in schema]
    for column in present:
        kind = schema[column]
        texts = isinstance(kind, pl.String | pl.Categorical | pl.Enum)
        moments = column not in IDS and isinstance(kind, pl.Date | pl.Datetime)  # a time of day or a span is none
        if not (texts or kind.is_numeric() or moments):
            wrong = "text or whole numbers" if column in IDS else "a number, a date or a time"
            raise GreamError(f"{path}: column {column!r} is {kind}, not {wrong}")
    try:
        found = frame.select(present).collect()
    except pl.exceptions.PolarsError as error:
        raise GreamError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    for column in (name for name in IDS if schema[name].is_float()):
        found = found.with_columns(pl.col(column).fill_nan(None))
        if len(broken := (found[column] != found[column].floor()).arg_true()):
            identity(found[column][broken[0]], column, f"{path} row {broken[0] + 1}")
        found = found.with_columns(pl.col(column).cast(pl.Int64))
    return found.with_columns(pl.col(column).cast(pl.String) for column in IDS)


def _scan(path: Path, required: Sequence[str]) -> pl.LazyFrame:
    """A Parquet file or a folder of them, not yet read."""
    try:
        frame = pl.scan_parquet(path / "**/*.parquet" if path.is_dir() else path, hive_partitioning=path.is_dir())
        present = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise GreamError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None
    if absent := [column for column in required if column not in present]:
        raise GreamError(f"{path} has no column {absent[0]!r}, only {', '.join(present)}: rename or add it")
    return frame
