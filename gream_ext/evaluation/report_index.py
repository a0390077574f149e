"""Quality of the item index: what `gream index report` measured, and how the page shows it."""

from collections.abc import Mapping
from typing import Any

from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, read_json


def index_quality(workspace: Workspace) -> dict[str, Any] | None:
    """index_quality.json and the shape of the index; None before there is one."""
    if not workspace.item_index.exists():
        return None
    index = ItemIndex.load(workspace.item_index)
    path = workspace.path("index_quality.json")
    quality = read_json(path, "index report") if path.exists() else {}
    return {**quality, "length": index.length, "sizes": list(index.sizes)}


def index_facts(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (str(name).replace("_", " "), f"{value:,.4g}")
        for name, value in quality.items()
        if isinstance(value, int | float)
    ]


def index_bars(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    return []
