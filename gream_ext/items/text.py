"""The text of an item that an encoder reads."""

from collections.abc import Mapping, Sequence
from typing import Any

from gream_ext.words import within
from gream_ext.workspace import Workspace, read_lines


def composite_text(item: Mapping[str, Any], characters: int = 2000, reviews: Sequence[str] = ()) -> str:
    """Title, brand, categories, attributes and description, one a line, as far as ``characters`` reach; then reviews.

    What does not fit is cut off after a whole word, the description (which comes last) first. ``reviews`` are
    lines that have a budget of their own (`gream_ext.items.text_reviews.review_lines`).

    >>> composite_text({"title": "Toy Story", "categories": ["Comedy", "Children's"], "attributes": ["year: 1995"]})
    "Toy Story\\ncategories: Comedy, Children's\\nyear: 1995"
    """
    lines = [
        item.get("title"),
        f"brand: {item['brand']}" if item.get("brand") else None,
        f"categories: {', '.join(item['categories'])}" if item.get("categories") else None,
        *(item.get("attributes") or ()),
        item.get("description"),
    ]
    cut = within("\n".join(line for line in lines if line), characters)
    return "\n".join([*([cut] if cut else []), *reviews])


def encoded_text(item: Mapping[str, Any], kind: str = "full", enriched: str | None = None) -> str:
    """What the encoder gets for an item (a row of items.parquet).

    ``kind`` is ``full`` (title, then the enriched description where there is one, else the composite text),
    ``composite`` or ``title``.
    """
    if kind == "title":
        return str(item["title"])
    return f"{item['title']}\n{enriched}" if kind == "full" and enriched else str(item["text"] or "")


def enriched_descriptions(workspace: Workspace) -> dict[str, str]:
    """What an LLM wrote of the items, by item id: ``enriched.jsonl``; empty before `gream enrich` was run."""
    path = workspace.enriched
    return dict(read_lines(path, "enrich", lambda row: (row["item_id"], row["description"]))) if path.exists() else {}
