"""What we take of an item's line in Amazon's meta files, for each edition.

Only what the seller says is taken. What is counted from purchases and reviews of all users (sales ranks, "also
bought", average ratings) is not: test interactions are part of it.
"""

import html
import re
from collections.abc import Callable, Mapping
from typing import Any

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
    """A text (or list of texts) without HTML tags.

    >>> plain(["<b>Soft</b> &amp; warm", "x &lt; y"])
    'Soft & warm x < y'
    """
    parts = value if isinstance(value, list) else [value]
    text = " ".join(part for part in parts if isinstance(part, str))
    return " ".join(_TAG.sub(" ", _HIDDEN.sub(" ", html.unescape(text))).split()) or None


def of_2014(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "item_id": fields.get("asin"),
        "title": plain(fields.get("title")),
        "brand": plain(fields.get("brand")),
        "categories": fields.get("categories"),
        "description": plain(fields.get("description")),
    }


def of_2018(fields: Mapping[str, Any]) -> dict[str, Any]:
    title = plain(fields.get("title"))
    return {
        "item_id": fields.get("asin"),
        "title": None if title and _SCRIPT in title else title,
        "brand": plain(fields.get("brand")),
        "categories": [_path(fields.get("category"))],
        "description": plain(fields.get("description")),
        "features": plain(fields.get("feature")),
    }


def of_2023(fields: Mapping[str, Any]) -> dict[str, Any]:
    path = _path(fields.get("categories")) or _path([fields.get("main_category")])
    details = fields.get("details")
    told = details.items() if isinstance(details, Mapping) else ()
    return {
        **{str(name): plain(value) for name, value in told if isinstance(value, str) and not _DULL.search(str(name))},
        "item_id": fields.get("parent_asin"),
        "title": plain(fields.get("title")),
        "brand": plain(fields.get("store")),
        "categories": [path],
        "description": plain(fields.get("description")),
        "features": plain(fields.get("features")),
    }


def _path(value: Any) -> list[str]:
    """The categories of an item, from the widest to the narrowest, as far as they are categories."""
    path: list[str] = []
    for step in value if isinstance(value, list) else []:
        if not isinstance(step, str) or "<" in step or len(step) > LONGEST_CATEGORY:
            break
        path.append(step)
    return path


ITEMS: dict[int, Callable[[Mapping[str, Any]], dict[str, Any]]] = {2014: of_2014, 2018: of_2018, 2023: of_2023}
