"""What we take of an item's line in Amazon's meta files, for each edition.

Only what the seller says is taken. What is counted from purchases and reviews of all users (sales ranks, "also
bought", average ratings) is not: test interactions are part of it.
"""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from gream_ext.data.records import as_list, missing, whole

LONGEST_CATEGORY = 60
"""Characters; in some lines of 2018 sentences of the description follow the categories."""
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.I | re.S)
_TAG = re.compile(r"</?[a-zA-Z!][^<>]{0,300}>")
_SCRIPT = "getTime"  # a page's script that stands in some titles of 2018
# Of 2023's details: numbers of a catalogue, dates and sizes that say nothing about taste, and counts of what users did.
_DULL = re.compile(
    r"rank|review|rating|asin|upc|isbn|gtin|ean\b|date|dimension|weight|discontinued|number|country|warranty", re.I
)


def plain(value: Any) -> str | None:
    """A text (or list of texts) without HTML tags; `ValueError` for what is neither.

    >>> plain(["<b>Soft</b> &amp; warm", "x &lt; y"])
    'Soft & warm x < y'
    """
    parts = [whole(part) for part in (value if isinstance(value, list) else [value]) if not missing(part)]
    if strange := [part for part in parts if isinstance(part, bool) or not isinstance(part, str | int | float)]:
        raise ValueError(f"{type(strange[0]).__name__} where a text should be")
    text = " ".join(map(str, parts))
    return " ".join(_TAG.sub(" ", _HIDDEN.sub(" ", html.unescape(text))).split()) or None


def of_2014(fields: Mapping[str, Any]) -> dict[str, Any]:
    texts = {name: plain(fields.get(name)) for name in ("title", "brand", "description")}
    return {"item_id": fields.get("asin"), **texts, "categories": fields.get("categories")}


def of_2018(fields: Mapping[str, Any]) -> dict[str, Any]:
    known = of_2014(fields)
    title = None if known["title"] and _SCRIPT in known["title"] else known["title"]
    more = {"categories": [_path(fields.get("category"))], "features": plain(fields.get("feature"))}
    return {**known, "title": title, **more}


def of_2023(fields: Mapping[str, Any]) -> dict[str, Any]:
    path = _path(fields.get("categories")) or _path([fields.get("main_category")])
    texts = {name: plain(fields.get(name)) for name in ("title", "description", "features")}
    item = {"item_id": fields.get("parent_asin"), "brand": plain(fields.get("store")), "categories": [path]}
    return {**_telling(fields.get("details")), **item, **texts}


def _telling(details: Any) -> dict[str, Any]:
    """What 2023's details, an object or (by the maintainers' loader) its JSON, say that has to do with taste."""
    if isinstance(details, str) and not missing(details):
        try:
            details = json.loads(details)
        except (ValueError, RecursionError):
            raise ValueError(f"details are {details[:40]!r}, which is not JSON") from None
    if missing(details):
        return {}
    if not isinstance(details, Mapping):
        raise ValueError(f"details are {type(details).__name__}, not an object")
    kept = {str(name): value for name, value in details.items() if not _DULL.search(str(name))}
    return {
        name: _telling(value) if isinstance(value, Mapping) else plain(str(value) if isinstance(value, bool) else value)
        for name, value in kept.items()
    }


def _path(value: Any) -> list[str]:
    """The categories of an item, from the widest to the narrowest, as far as they are categories."""
    value = as_list(value) if isinstance(value, str) and not missing(value) else value
    if not (missing(value) or isinstance(value, list | str)):
        raise ValueError(f"categories are {type(value).__name__}, not a list of texts")
    path: list[str] = []
    for step in value if isinstance(value, list) else [value]:
        if missing(step):
            continue
        if not isinstance(step, str):
            raise ValueError(f"categories have {type(step).__name__} in them, not texts alone")
        if "<" in step or len(step) > LONGEST_CATEGORY:
            break
        path.append(step)
    return path


ITEMS = {2014: of_2014, 2018: of_2018, 2023: of_2023}
