"""Reading JSON, by lines or whole, so that whatever is wrong is said with its file and line."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gream_ext.data.files import decoded, opened
from gream_ext.errors import GreamError


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
            if wanted is None or wanted(line):
                where = f"{path} line {number}"
                yield where, _object(_value(decoded(line, where), where, literals), where)
    if empty:
        raise GreamError(f"{path} is empty")


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of a file with one list of objects, one object of objects (by item_id), or one object a line."""
    with opened(path) as file:
        start = file.read(2**16).lstrip(b"\xef\xbb\xbf").lstrip()
    first_line = start.partition(b"\n")[0].rstrip()
    if start[:1] != b"[" and first_line.endswith(b"}") and b"\n" in start.rstrip():
        yield from json_lines(path)
        return
    value = read_json(path)
    if isinstance(value, dict) and isinstance(value.get("item_id"), dict):  # by columns, as pandas writes it
        value = [{name: column.get(row) for name, column in value.items()} for row in value["item_id"]]
    elif isinstance(value, dict) and all(isinstance(one, dict) for one in value.values()):
        value = [{"item_id": key, **fields} for key, fields in value.items()]
    elif isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise GreamError(f"{path} is empty, or not a list of objects")
    for number, fields in enumerate(value, start=1):
        where = f"{path} row {number}"
        yield where, _object(fields, where)


def read_json(path: Path) -> Any:
    """What a JSON file holds; `GreamError` for one that is not JSON in UTF-8."""
    with opened(path) as file:
        return _value(decoded(file.read(), str(path)), str(path))


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise GreamError(f"{where}: {type(value).__name__}, not an object {{…}}")
    return value


def _value(text: str, where: str, literals: bool = False) -> Any:
    literal = literals and text.startswith("{'")
    try:
        return ast.literal_eval(text) if literal else json.loads(text)
    except json.JSONDecodeError as error:
        raise GreamError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        kind = "not a Python literal" if literal else "not usable JSON"  # numbers of thousands of digits, deep nesting
        raise GreamError(f"{where}: {kind} ({str(error).splitlines()[0].partition(';')[0]})") from None
