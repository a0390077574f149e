"""One item as sources describe it, in one shape."""

import ast
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from gream_ext.errors import GreamError

GAPS = ("", "nan", "NaN", "NaT", "<NA>")
"""What stands in tables where nothing is known: the last four are how pandas writes it."""
KNOWN = ("item_id", "title", "brand", "categories", "description")
# What a chat template, the reasoning format or an identifier means by these must not come from a product's title.
_MARKERS = re.compile(r"<\|.*?\|>|</?(?:think|answer)>")
_BETWEEN = re.compile(r"""(['"])\s+(?=['"])""")  # numpy writes ['A' 'B']
_JSON = re.compile(r'^[\[\s]*("|null\b)')
_SURROGATE = re.compile(r"[\ud800-\udfff]")  # half a character, which no file in UTF-8 can hold
_SPACE = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]+")


class ItemRecord(TypedDict):
    """A row of items.parquet, but for the composite text."""

    item_id: str
    title: str | None
    brand: str | None
    categories: list[str]
    description: str | None
    attributes: list[str]


def item_record(fields: Mapping[str, Any], where: str, ignored: Sequence[str] = ()) -> ItemRecord:
    """Bring the fields of one item into shape.

    ``categories`` may be a text, a list of texts or a list of paths (lists), which are joined by " > ", or such a
    list as text, as Python, JSON or numpy write it. Every further field that is not in ``ignored`` becomes an
    attribute "name: value". Gaps (None, NaN, `GAPS`) count as missing everywhere. Raises `GreamError`, which
    begins with ``where``, when there is no item_id or a known field has a wrong type.

    >>> record = item_record({"item_id": 7, "title": "A &amp; B", "categories": [["C", "D"]], "year": 1995.0}, "line 1")
    >>> record["item_id"], record["title"], record["categories"], record["attributes"]
    ('7', 'A & B', ['C > D'], ['year: 1995'])
    """
    further = ((name, value) for name, value in fields.items() if name not in KNOWN and name not in ignored)
    return {
        "item_id": identity(fields.get("item_id"), "item_id", where),
        "title": _text(fields.get("title"), "title", where),
        "brand": _text(fields.get("brand"), "brand", where),
        "categories": _categories(fields.get("categories"), where),
        "description": _text(fields.get("description"), "description", where),
        "attributes": [attribute for name, value in further for attribute in _attributes(name, value)],
    }


def identity(value: Any, column: str, where: str) -> str:
    """An id as text; `GreamError` unless it is a text that is not empty or a whole number."""
    if missing(value):
        raise GreamError(f"{where}: {column} is empty: fill it in or delete the row")
    value = whole(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise GreamError(f"{where}: {column} is {value!r}, neither text nor a whole number")
    return _encodable(str(value), column, where)


def missing(value: Any) -> bool:
    """Whether a value is a gap: None, NaN, or a text that says so."""
    return value is None or (isinstance(value, float) and value != value) or (isinstance(value, str) and value in GAPS)


def whole(value: Any) -> Any:
    """The value, a whole number in floating point as an integer: a gap makes pandas turn 1991 into 1991.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def clean(text: str) -> str:
    """Text without HTML entities, line breaks, and the markers that mean something in a prompt."""
    return _SPACE.sub(" ", _MARKERS.sub(" ", html.unescape(text))).strip()


def figure(value: Any) -> float:
    """A number, 0 for a gap; `ValueError` or `TypeError` for what is none."""
    return 0.0 if missing(value) else float(value)


def as_list(text: str) -> list[Any] | str:
    """The list that a text spells as Python, JSON or numpy do; else the text.

    >>> as_list("['A', 'B']"), as_list('[["A"]]'), as_list("['A' 'B']"), as_list("A, B")
    (['A', 'B'], [['A']], ['A', 'B'], 'A, B')
    """
    if not text.startswith("[") or not text.endswith("]"):
        return text
    spelled = _BETWEEN.sub(r"\1, ", text)
    try:
        found = json.loads(spelled) if _JSON.search(spelled) else ast.literal_eval(spelled)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text
    return found if isinstance(found, list) else text


def _encodable(text: str, column: str, where: str) -> str:
    if _SURROGATE.search(text):
        raise GreamError(f"{where}: {column} is {text!a}, which has half of a character: write it anew")
    return text


def _text(value: Any, column: str, where: str) -> str | None:
    if isinstance(value, list):
        parts = [part for part in value if not missing(part)]
        value = " ".join(parts) if all(isinstance(part, str) for part in parts) else value
    if missing(value):
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(whole(value))
    if not isinstance(value, str):
        raise GreamError(f"{where}: {column} is {type(value).__name__}, not a text")
    return clean(_encodable(value, column, where) if column == "title" else value) or None


def _categories(value: Any, where: str) -> list[str]:
    value = as_list(value) if isinstance(value, str) else value
    listed = value if isinstance(value, list) else [value]
    paths = [part if isinstance(part, list) else [part] for part in listed if not missing(part)]
    if not all(isinstance(step, str) for path in paths for step in path):
        raise GreamError(f"{where}: categories is neither a text nor a list of texts")
    joined = [" > ".join(step for step in map(clean, path) if step) for path in paths]
    return list(dict.fromkeys(path for path in joined if path))


def _attributes(name: str, value: Any) -> Iterator[str]:
    """ "name: value" of a value, the parts of a list in one; of a mapping and of what is in lists, one by one."""
    if isinstance(value, Mapping):
        for inner, part in value.items():
            yield from _attributes(str(inner), part)
        return
    parts = value if isinstance(value, list) else [value]
    flat = [str(whole(part)) for part in parts if not isinstance(part, Mapping | list) and not missing(part)]
    if text := clean(", ".join(flat)):
        yield f"{clean(name)}: {text}"
    for part in parts:
        if isinstance(part, Mapping | list):
            yield from _attributes(name, part)
