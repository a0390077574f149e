"""Reading text tables, so that whatever is wrong is said with its file and line."""

import csv
import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import polars as pl

from gream_ext.data.records import GAPS, missing
from gream_ext.errors import GreamError

SEPARATORS = (",", "\t", ";")
TYPED = (".inter", ".item")
"""RecBole's atomic files: apart by tabs, nothing in quotes, a type after each name of the header."""


def find(folder: Path, stem: str, endings: Sequence[str]) -> Path | None:
    """The one file ``stem`` + ending in ``folder``, or None; `GreamError` when there are several.

    A folder of Parquet files, ``stem`` or ``stem.parquet``, counts as one.
    """
    found = [place for ending in endings if (place := folder / f"{stem}{ending}").is_file()]
    found += [place for place in (folder / stem, folder / f"{stem}.parquet") if any(place.glob("**/*.parquet"))]
    if len(found) > 1:
        raise GreamError(f"{folder} has both {found[0].name} and {found[1].name}: delete or rename one")
    return found[0] if found else None


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked when its name ends in .gz."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            yield cast(IO[bytes], file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        if "Not a gzipped file" in str(error):
            raise GreamError(f"{path} is named .gz but is not gzip: rename it or compress it") from None
        raise GreamError(f"{path} is cut off or damaged ({error}): get it again") from None


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with its name, ``file line 3``; `GreamError` for one that is not UTF-8."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path} line {number}"
            yield where, decoded(line, where)


def decoded(content: bytes, where: str) -> str:
    """The text of bytes in UTF-8, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GreamError(f"{where}: not UTF-8 ({error.reason}): save the file as UTF-8") from None


class Layout(NamedTuple):
    """How a text table is written."""

    separator: str
    quoted: bool
    """Whether a field may stand in quotes."""
    names: list[str]
    """The columns, without the types that RecBole's headers have: ``item_id:token``."""


def layout_of(path: Path, required: Sequence[str] = ()) -> Layout:
    """The layout of a text table: the separator is the one that finds the ``required`` columns in the header."""
    typed = path.suffix in TYPED
    with opened(path) as file:
        beginning = file.read(2**20)
    if b"\r" in beginning and b"\n" not in beginning:
        raise GreamError(f"{path} ends its lines with CR alone: save it with LF or CR LF")
    header = decoded(beginning.partition(b"\n")[0], f"{path} line 1").rstrip("\r")
    if not header:
        raise GreamError(f"{path} is empty")
    first = "\t" if typed or ".tsv" in path.suffixes else ","
    read = {one: next(_reader([header], one, not typed)) for one in dict.fromkeys((first, *SEPARATORS))}
    if typed:
        read = {one: [name.rpartition(":")[0] or name for name in names] for one, names in read.items()}
    separator = next((one for one in read if required and set(required) <= set(read[one])), None)
    if separator is None:
        separator = max(read, key=lambda one: len(read[one]))
    names = read[separator]
    if absent := [column for column in required if column not in names]:
        raise GreamError(f"{path} has no column {absent[0]!r}, only {', '.join(names)}: rename or add it")
    if twice := [name for name in names if names.count(name) > 1]:
        raise GreamError(f"{path} has several columns {twice[0]!r}: rename or delete all but one")
    return Layout(separator, not typed, names)


def read_delimited(path: Path, wanted: Sequence[str], required: Sequence[str]) -> pl.DataFrame:
    """The columns ``wanted`` of a text table with a header, as far as it has them, as text; rows as in the file.

    Raises `GreamError` for a missing required column and for whatever is wrong in a line.
    """
    layout = layout_of(path, required)
    chosen = [number for number, name in enumerate(layout.names) if name in wanted]
    try:
        frame = pl.read_csv(
            path, separator=layout.separator, quote_char='"' if layout.quoted else None, columns=chosen,
            infer_schema=False, null_values=list(GAPS),
        )  # fmt: skip
    except (pl.exceptions.PolarsError, OSError) as error:
        _say_what_is_wrong(path, layout)
        raise GreamError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from None
    frame.columns = [layout.names[number] for number in chosen]
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    filled = (~blank).arg_true()
    frame = frame.head(filled[-1] + 1 if len(filled) else 0)  # without blank lines at the end
    if len(filled) < len(frame):  # rows must keep their line numbers
        raise GreamError(f"{path} line {blank.arg_true()[0] + 2} is blank: delete it")
    return frame


def records(path: Path, required: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str | None]]]:
    """Each line's name and fields of a text table with a header; a gap is None."""
    yield from _records(path, layout_of(path, required))


def _records(path: Path, layout: Layout) -> Iterator[tuple[str, dict[str, str | None]]]:
    rows = _reader((line for _, line in lines_of(path)), layout.separator, layout.quoted)
    try:
        for number, row in enumerate(rows):
            where = f"{path} line {rows.line_num}"
            if number == 0 or not row:  # the header, a blank line
                continue
            if len(row) != len(layout.names):
                raise GreamError(f"{where}: {len(row)} fields, but the header has {len(layout.names)}")
            yield (
                where,
                {name: None if missing(value) else value for name, value in zip(layout.names, row, strict=True)},
            )
    except csv.Error as error:
        said = "a quote is not closed" if "unexpected end" in str(error) else error
        raise GreamError(f"{path} line {rows.line_num}: {said}") from None


def _reader(lines: Iterable[str], separator: str, quoted: bool) -> Any:
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return csv.reader(lines, delimiter=separator, quoting=quoting, strict=quoted)


def _say_what_is_wrong(path: Path, layout: Layout) -> None:
    """Walk slowly through a file that could not be read, and raise at the first line that is wrong."""
    for _ in _records(path, layout):
        pass
    for where, line in lines_of(path):
        if layout.quoted and line.count('"') % 2:
            raise GreamError(f"{where} has a quote inside a field: delete it, or quote the field")
