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
    facts = [("tokens of an identifier", str(quality["length"])), ("codes of each level", _joined(quality["sizes"]))]
    for key, name in (
        ("items", "items"),
        ("raw_collision_rate", "collision rate before the conflict slot"),
        ("colliding_items", "items that collide"),
        ("largest_group", "largest colliding group"),
    ):
        value = quality.get(key)
        if value is not None:
            facts.append((name, f"{value:.1%}" if key == "raw_collision_rate" else f"{value:,}"))
    errors = [level["quantisation_error"] for level in quality.get("levels") or [] if level.get("quantisation_error")]
    if errors:
        facts.append(("quantisation error after each level", ", ".join(f"{error:.3f}" for error in errors)))
    return facts


def index_bars(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cards of bars: how each level is used, and what items that share levels share."""
    levels, shared = quality.get("levels") or [], quality.get("shared_levels") or []
    cards = [
        _card(
            "Use of each level",
            "Perplexity: how many evenly used codes a level amounts to, of those it has.",
            [
                (_level(number), level["perplexity"] / level["size"], f"{level['perplexity']:.1f} of {level['size']}")
                for number, level in enumerate(levels)
            ],
        ),
    ]
    for key, title, caption in (
        ("share_category", "Same category", "Share of item pairs with a category in common."),
        ("next_item", "Follow one another", "Share of item pairs that follow one another in some training history."),
    ):
        rows = [(row["levels"], row[key]) for row in shared if row.get(key) is not None]
        bars = [
            (_sharing(number), value, f"{value:.1%}" if value >= 0.01 else f"{value:.3%}") for number, value in rows
        ]
        cards.append(_card(title, f"{caption} A random index is what chance gives.", bars, plain=[0]))
    return [card for card in cards if card["bars"]]


def _card(
    title: str, caption: str, bars: Sequence[tuple[str, float, str]], plain: Sequence[int] = ()
) -> dict[str, Any]:
    longest = max((value for _, value, _ in bars), default=0.0) or 1.0
    return {
        "title": title,
        "caption": caption,
        "bars": [
            {
                "name": name,
                "width": round(100 * value / longest, 2),
                "text": text,
                "tone": "plain" if n in plain else "",
            }
            for n, (name, value, text) in enumerate(bars)
        ],
    }


def _level(number: int) -> str:
    return f"level {LEVEL_LETTERS[number]}"


def _sharing(levels: int) -> str:
    return "random index" if levels == 0 else f"{levels} shared level{'s' if levels > 1 else ''}"


def _joined(values: Sequence[Any]) -> str:
    return " × ".join(map(str, values))
