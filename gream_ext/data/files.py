"""Reading text tables, so that whatever is wrong is said with its file and line."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from gream_ext.data.records import GAPS, missing, whole_number
from gream_ext.errors import GreamError

GZIP_MAGIC = b"\x1f\x8b"
SEPARATORS = (",", "\t", ";")
TYPED = (".inter", ".item")
"""RecBole's atomic files: apart by tabs, nothing in quotes, a type after each name of the header."""


def find(folder: Path, stem: str, endings: Sequence[str]) -> Path | None:
    """The one file ``stem`` + ending in ``folder``, or None; `GreamError` when there are several.

    A folder of Parquet files, ``stem`` or ``stem.parquet``, counts as one.
    """
    places = [folder / f"{stem}{ending}" for ending in endings]
    found = [place for place in places if place.is_file()]
    found += [place for place in (folder / stem, folder / f"{stem}.parquet") if any(place.glob("**/*.parquet"))]
    if len(found) > 1:
        raise GreamError(f"{folder} has both {found[0].name} and {found[1].name}: delete or rename one")
    return found[0] if found else None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked when its name ends in .gz."""
    if not path.name.endswith(".gz"):
        with path.open("rb") as file:
            yield file
        return
    with path.open("rb") as file:
        if file.read(2) != GZIP_MAGIC:
            raise GreamError(f"{path} is named .gz but is not gzip: rename it or compress it")
    try:
        with gzip.open(path) as unpacked:
            yield cast(IO[bytes], unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GreamError(f"{path} is cut off or damaged ({error}): get it again") from None


@dataclass(frozen=True)
class Layout:
    """How a text table is written."""

    separator: str
    quoted: bool
    """Whether a field may stand in quotes."""
    columns: tuple[str, ...]
    """As they stand in the header."""
    names: tuple[str, ...]
    """Without the types that RecBole's headers have: ``item_id:token``."""


def layout_of(path: Path, required: Sequence[str] = ()) -> Layout:
    """The layout of a text table: the separator is the one that finds the ``required`` columns in the header."""
    typed = path.suffix in TYPED
    first = "\t" if typed or ".tsv" in path.suffixes else ","
    header = _first_line(path)
    read = {
        one: next(csv.reader([header], delimiter=one, quoting=_quoting(not typed)))
        for one in dict.fromkeys((first, *SEPARATORS))
    }
    named = {one: tuple(name.rpartition(":")[0] or name if typed else name for name in read[one]) for one in read}
    separator = next((one for one in read if required and set(required) <= set(named[one])), None)
    if separator is None:
        separator = max(read, key=lambda one: len(read[one]))
        if missing := [column for column in required if column not in named[separator]]:
            has = ", ".join(named[separator])
            raise GreamError(f"{path} has no column {missing[0]!r}, only {has}: rename or add it")
    twice = next((name for name in named[separator] if named[separator].count(name) > 1), None)
    if twice is not None:
        raise GreamError(f"{path} has several columns {twice!r}: rename or delete all but one")
    return Layout(separator, not typed, tuple(read[separator]), named[separator])


def read_delimited(path: Path, types: Mapping[str, Any], required: Sequence[str]) -> pl.DataFrame:
    """The columns in ``types`` of a text table with a header, as far as it has them; rows as in the file.

    Raises `GreamError` for a missing required column and for whatever is wrong in a line.
    """
    layout = layout_of(path, required)
    chosen = {column: name for column, name in zip(layout.columns, layout.names, strict=True) if name in types}
    kinds = {column: types[name] for column, name in chosen.items()}
    try:
        frame = pl.read_csv(
            path,
            separator=layout.separator,
            quote_char='"' if layout.quoted else None,
            columns=list(chosen),
            schema_overrides=kinds,
            null_values=list(GAPS),
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        _say_what_is_wrong(path, layout, {chosen[column]: kind for column, kind in kinds.items()})
        raise GreamError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    return _without_blank_end(frame.rename(chosen), path)


def _without_blank_end(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The table without blank lines at its end; one in the middle is an error: rows must keep their line numbers."""
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    filled = (~blank).arg_true()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)
    if len(filled) < len(frame):
        raise GreamError(f"{path} line {blank.arg_true()[0] + 2} is blank: delete it")
    return frame


def records(path: Path, required: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Each line's name and fields of a text table with a header; a gap is None."""
    layout = layout_of(path, required)
    with _rows(path, layout.separator, layout.quoted) as rows:
        next(rows)
        for row in rows:
            if not row:  # a blank line
                continue
            where = f"{path} line {rows.line_num}"
            if len(row) != len(layout.names):
                raise GreamError(f"{where}: {len(row)} fields, but the header has {len(layout.names)}")
            yield (
                where,
                {name: None if missing(value) else value for name, value in zip(layout.names, row, strict=True)},
            )


@contextmanager
def _rows(path: Path, separator: str, quoted: bool = True) -> Iterator[Any]:
    """A csv reader over a file; its errors as `GreamError`."""
    reader: Any = None
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=separator, quoting=_quoting(quoted), strict=quoted)
            yield reader
    except UnicodeDecodeError as error:
        raise GreamError(f"{_undecodable_line(path)}: not UTF-8 ({error.reason}): save the file as UTF-8") from None
    except csv.Error as error:
        said = "a quote is not closed" if "unexpected end" in str(error) else error
        raise GreamError(f"{path} line {reader.line_num}: {said}") from None


def _quoting(quoted: bool) -> Any:
    return csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE


def _undecodable_line(path: Path) -> str:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f"{path} line {number}"
    return str(path)


def _first_line(path: Path) -> str:
    with opened(path) as file:
        beginning = file.read(2**20)
    if b"\r" in beginning and b"\n" not in beginning:
        raise GreamError(f"{path} ends its lines with CR alone: save it with LF or CR LF")
    try:
        line = beginning.partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError as error:
        raise GreamError(f"{path} line 1: not UTF-8 ({error.reason}): save the file as UTF-8") from None
    if not line:
        raise GreamError(f"{path} is empty")
    return line


def _say_what_is_wrong(path: Path, layout: Layout, types: Mapping[str, Any]) -> None:
    """Walk slowly through a file that could not be read, and raise at the first line that is wrong."""
    for where, fields in records(path, tuple(types)):
        for column, kind in types.items():
            value = fields[column]
            if kind == pl.Int64 and value is not None:
                try:
                    whole_number(int(value), column, where)
                except ValueError:
                    raise GreamError(f"{where}: {column} is {value[:40]!r}, not a whole number") from None
    if not layout.quoted:
        return
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.count(b'"') % 2:
                raise GreamError(f"{path} line {number} has a quote inside a field: delete it, or quote the field")
