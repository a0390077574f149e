"""Quality of the item index: what `gream index build` and `gream index report` measured, and how the page shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from gream_ext.identifiers import LEVEL_LETTERS
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, read_json


def index_quality(workspace: Workspace) -> dict[str, Any] | None:
    """The figures of both stages and the shape of the index; None before there is one."""
    if not workspace.item_index.exists():
        return None
    index = ItemIndex.load(workspace.item_index)
    quality: dict[str, Any] = {}
    for name, made_by in (("index_quality.json", "index build"), ("index_report.json", "index report")):
        if workspace.path(name).exists():
            quality |= read_json(workspace.path(name), made_by)
    return {**quality, "length": index.length, "sizes": list(index.sizes)}


def index_facts(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that are one number."""
    if not quality:
        return []
    sizes = " × ".join(map(str, quality["sizes"]))
    facts = [("tokens of an identifier", str(quality["length"])), ("codes of each level", sizes)]
    for key, name, form in (
        ("items", "items", ",d"),
        ("raw_collision_rate", "collision rate before the conflict slot", ".1%"),
        ("colliding_items", "items that collide", ",d"),
        ("largest_group", "largest colliding group", ",d"),
    ):
        if quality.get(key) is not None:
            facts.append((name, format(quality[key], form)))
    errors = [level["quantisation_error"] for level in quality.get("levels") or [] if level.get("quantisation_error")]
    if errors:
        facts.append(("quantisation error after each level", ", ".join(f"{error:.3f}" for error in errors)))
    return facts


def index_bars(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cards of bars: how each level is used, and what items that share levels share."""
    used = [
        (
            f"level {LEVEL_LETTERS[n]}",
            level["perplexity"] / level["size"],
            f"{level['perplexity']:.1f} of {level['size']}",
        )
        for n, level in enumerate(quality.get("levels") or [])
    ]
    caption = "Perplexity: how many evenly used codes a level amounts to, of those it has."
    cards = [{"title": "Use of each level", "caption": caption, "bars": bars(used)}]
    for key, title, caption in (
        ("share_category", "Same category", "Share of item pairs with a category in common."),
        ("next_item", "Follow one another", "Share of item pairs that follow one another in some training history."),
    ):
        shared = [
            (_sharing(row["levels"]), row[key], f"{row[key]:.1%}" if row[key] >= 0.01 else f"{row[key]:.3%}")
            for row in quality.get("shared_levels") or []
            if row.get(key) is not None
        ]
        caption += " A random index is what chance gives."
        cards.append({"title": title, "caption": caption, "bars": bars(shared, plain="random index")})
    return [card for card in cards if card["bars"]]


def bars(rows: Sequence[tuple[str, float, str]], plain: str = "") -> list[dict[str, Any]]:
    """(name, value, text) as bars whose longest is as wide as its track; the one called ``plain`` is grey."""
    longest = max((value for _, value, _ in rows), default=0.0) or 1.0
    return [
        {"name": name, "width": round(100 * value / longest, 2), "text": text, "tone": "plain" if name == plain else ""}
        for name, value, text in rows
    ]


def _sharing(levels: int) -> str:
    return "random index" if levels == 0 else f"{levels} shared level{'s' if levels > 1 else ''}"
