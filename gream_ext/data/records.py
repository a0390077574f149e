"""One item as sources describe it, brought into one shape."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from gream_ext.errors import GreamError

KNOWN = ("item_id", "title", "brand", "categories", "description")
# What a chat template, the reasoning format or an identifier means by these must not come from a product's title.
_MARKERS = re.compile(r"<\|.*?\|>|</?(?:think|answer)>")
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

    ``categories`` may be a text, a list of texts or a list of paths (lists), which are joined by " > ". Every
    further field that is not in ``ignored`` becomes an attribute "name: value". Raises `GreamError`, which
    begins with ``where``, when there is no item_id, a known field has a wrong type, or attributes are nested
    hundreds deep.

    >>> record = item_record({"item_id": 7, "title": "A &amp; B", "categories": [["C", "D"]], "year": 1995}, "line 1")
    >>> record["item_id"], record["title"], record["categories"], record["attributes"]
    ('7', 'A & B', ['C > D'], ['year: 1995'])
    """
    try:
        attributes = [
            attribute
            for name, value in fields.items()
            if name not in KNOWN and name not in ignored
            for attribute in _attributes(name, value)
        ]
    except RecursionError:
        raise GreamError(f"{where}: fields are nested too deeply: flatten them") from None
    return {
        "item_id": identity(fields.get("item_id"), "item_id", where),
        "title": _text(fields.get("title"), "title", where),
        "brand": _text(fields.get("brand"), "brand", where),
        "categories": _categories(fields.get("categories"), where),
        "description": _text(fields.get("description"), "description", where),
        "attributes": attributes,
    }


def identity(value: Any, column: str, where: str) -> str:
    """An id as text; `GreamError` unless it is a text that is not empty or a whole number."""
    if value is None or value == "":
        raise GreamError(f"{where}: {column} is empty: fill it in or delete the row")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise GreamError(f"{where}: {column} is {value!r}, neither a text nor a whole number")
    return _encodable(str(value), column, where)


def _encodable(text: str, column: str, where: str) -> str:
    if _SURROGATE.search(text):
        raise GreamError(f"{where}: {column} is {text!a}, which has half of a character: write it anew")
    return text


def clean(text: str) -> str:
    """Text without HTML entities, line breaks, and the markers that mean something in a prompt."""
    return _SPACE.sub(" ", _MARKERS.sub(" ", html.unescape(text))).strip()


def _text(value: Any, column: str, where: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = " ".join(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise GreamError(f"{where}: {column} is {type(value).__name__}, not a text")
    return clean(_encodable(value, column, where) if column == "title" else value) or None


def _categories(value: Any, where: str) -> list[str]:
    if value is None:
        return []
    listed = value if isinstance(value, list) else [value]
    paths = [part if isinstance(part, list) else [part] for part in listed]
    if not all(isinstance(step, str) for path in paths for step in path):
        raise GreamError(f"{where}: categories is neither a text nor a list of texts")
    joined = [" > ".join(step for step in map(clean, path) if step) for path in paths]
    return list(dict.fromkeys(path for path in joined if path))


def _attributes(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [attribute for inner, part in value.items() for attribute in _attributes(str(inner), part)]
    if isinstance(value, list):
        value = ", ".join(str(part) for part in value if isinstance(part, str | int | float))
    text = "" if value is None else clean(str(value))
    return [f"{clean(name)}: {text}"] if text else []
