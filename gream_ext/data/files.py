"""Reading tables and JSON lines, so that whatever is wrong is said with its file and line."""

import ast
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import polars as pl

from gream_ext.errors import GreamError

GZIP_MAGIC = b"\x1f\x8b"
INT64 = range(-(2**63), 2**63)


def find(folder: Path, stem: str, endings: Sequence[str]) -> Path | None:
    """The one file ``stem`` + ending in ``folder``, or None; `GreamError` when there are several."""
    found = [folder / f"{stem}{ending}" for ending in endings if (folder / f"{stem}{ending}").is_file()]
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


def json_lines(
    path: Path, literals: bool = False, wanted: Callable[[bytes], bool] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line's name ("file line 3") and object; `GreamError` for a line that is not a JSON object in UTF-8.

    With ``literals`` a line may be a Python literal (``{'a': None}``) instead, which is read without running it.
    Lines that ``wanted`` says no to are passed over unread.
    """
    empty = True
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            empty = False
            if wanted and not wanted(line):
                continue
            where = f"{path} line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise GreamError(f"{where}: not UTF-8 ({error.reason}): save the file as UTF-8") from None
            value = _literal(text, where) if literals and text.startswith("{'") else _json(text, where)
            if not isinstance(value, dict):
                raise GreamError(f"{where}: {type(value).__name__}, not an object {{…}}")
            yield where, value
    if empty:
        raise GreamError(f"{path} is empty")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise GreamError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets in brackets
        raise GreamError(f"{where}: not usable JSON ({str(error).partition(';')[0]})") from None


def _literal(text: str, where: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise GreamError(f"{where}: not a Python literal ({str(error).splitlines()[0]})") from None


def read_delimited(path: Path, types: Mapping[str, Any], required: Sequence[str], separator: str = ",") -> pl.DataFrame:
    """The columns in ``types`` of a text table with a header, as far as it has them; rows as in the file.

    Raises `GreamError` for a missing required column and for whatever is wrong in a line.
    """
    header = _header(path, separator)
    missing = [column for column in required if column not in header]
    if missing:
        raise GreamError(f"{path} has no column {missing[0]!r}, only {', '.join(header)}: rename or add it")
    columns = [column for column in header if column in types]
    chosen = {column: types[column] for column in columns}
    try:
        frame = pl.read_csv(path, separator=separator, columns=columns, schema_overrides=chosen)
    except (pl.exceptions.PolarsError, OSError) as error:
        _say_what_is_wrong(path, separator, chosen)
        raise GreamError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    return _without_blank_end(frame, path)


def _without_blank_end(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The table without blank lines at its end; one in the middle is an error: rows must keep their line numbers."""
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    filled = (~blank).arg_true()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)
    if len(filled) < len(frame):
        raise GreamError(f"{path} line {blank.arg_true()[0] + 2} is blank: delete it")
    return frame


def records(path: Path, separator: str = ",") -> Iterator[tuple[str, dict[str, str | None]]]:
    """Each line's name and fields of a text table with a header; an empty field is None."""
    with _rows(path, separator) as rows:
        header = _checked(next(rows, None), path)
        for row in rows:
            if not row:  # a blank line
                continue
            where = f"{path} line {rows.line_num}"
            if len(row) != len(header):
                raise GreamError(f"{where}: {len(row)} fields, but the header has {len(header)}")
            yield where, {name: value or None for name, value in zip(header, row, strict=True)}


@contextmanager
def _rows(path: Path, separator: str) -> Iterator[Any]:
    """A csv reader over a file; its errors as `GreamError`."""
    reader: Any = None
    try:
        with opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=separator, strict=True)
            yield reader
    except UnicodeDecodeError as error:
        raise GreamError(f"{_undecodable_line(path)}: not UTF-8 ({error.reason}): save the file as UTF-8") from None
    except csv.Error as error:
        said = "a quote is not closed" if "unexpected end" in str(error) else error
        raise GreamError(f"{path} line {reader.line_num}: {said}") from None


def _undecodable_line(path: Path) -> str:
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return f"{path} line {number}"
    return str(path)


def _header(path: Path, separator: str) -> list[str]:
    with opened(path) as file:
        beginning = file.read(2**20)
    if b"\r" in beginning and b"\n" not in beginning:
        raise GreamError(f"{path} ends its lines with CR alone: save it with LF or CR LF")
    with _rows(path, separator) as rows:
        return _checked(next(rows, None), path)


def _checked(header: list[str] | None, path: Path) -> list[str]:
    """The header of a table, which names each column once."""
    if not header:
        raise GreamError(f"{path} is empty")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise GreamError(f"{path} has several columns {twice!r}: rename or delete all but one")
    return header


def _say_what_is_wrong(path: Path, separator: str, types: Mapping[str, Any]) -> None:
    """Walk slowly through a file that could not be read, and raise at the first line that is wrong."""
    for where, fields in records(path, separator):
        for column, kind in types.items():
            value = fields[column]
            if kind == pl.Int64 and value is not None:
                try:
                    whole_number(int(value), column, where)
                except ValueError:
                    raise GreamError(f"{where}: {column} is {value[:40]!r}, {not_whole(column)}") from None
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.count(b'"') % 2:
                raise GreamError(f"{path} line {number} has a quote inside a field: delete it, or quote the field")


def not_whole(column: str) -> str:
    """What is wrong with a value of ``column`` that is no whole number, and what to do about it."""
    if column != "timestamp":
        return "not a whole number"
    return "not a whole number: write seconds since 1970 (2014-07-21 is 1405900800), or a column 'position' instead"


def whole_number(value: Any, column: str, where: str) -> int:
    """The value, or `GreamError` unless it is an integer that 64 bits hold."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise GreamError(f"{where}: {column} is {str(value)[:40]!r}, {not_whole(column)}")
    if value not in INT64:
        raise GreamError(f"{where}: {column} is too large a number ({len(str(abs(value)))} digits)")
    return value
