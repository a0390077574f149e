"""The quality of an index as one HTML page with its plots in it."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from gream_ext.items.quality_table import beside_random, shared_table


def quality_page(quality: Mapping[str, Any]) -> str:
    """A page that needs no other file; ``quality`` is what index_report.json holds."""
    style = files("gream_ext.extras.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    tables = beside_random(quality), shared_table(quality["shared_levels"], quality["random"]["shared_levels"])
    cards = "".join(_card(title, note, chart) for title, note, chart in charts(quality))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Item index</title>'
        f"<style>{style}</style></head><body><main><h1>Item index</h1><p class='lead'>{quality['items']:,} items, raw "
        f"collision rate {quality['raw_collision_rate']:.2%}, largest group {quality['largest_group']}. Solid: this "
        f"index. Dashed: a random index.</p><div class='two'>{cards}</div>"
        f"{''.join(f'<pre>{escape(table)}</pre>' for table in tables)}</main></body></html>\n"
    )


def charts(quality: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(title, caption, SVG) of each plot; one without figures is left out."""
    levels, shared = "levels", "shared_levels"
    wanted = [
        ("Perplexity", "How many evenly used codes a level amounts to.", levels, "perplexity", "level"),
        ("Utilisation", "Share of a level's codes that occur.", levels, "utilisation", "level"),
        ("Quantisation error", "Mean squared length of what a level leaves.", levels, "quantisation_error", "level"),
        ("Same category", "Share of pairs with a category in common.", shared, "share_category", "shared levels"),
        ("Next to each other", "Share of pairs that follow one another.", shared, "next_item", "shared levels"),
    ]
    made = [
        (title, note, _lines(quality[group], quality["random"][group], key, label, title.lower()))
        for title, note, group, key, label in wanted
    ]
    made.append(("Groups", "Items of equal codes, before the conflict slot.", _group_chart(quality)))
    return [one for one in made if one[2]]


def _lines(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], key: str, x_label: str, y_label: str
) -> str:
    from gream_ext.extras.report.svg import Series, line_chart

    if all(row[key] is None for row in ours):
        return ""
    places = [float(row.get("levels", number)) for number, row in enumerate(ours, start=1)]
    both = [
        Series("this index", places, [row[key] for row in ours], "ours"),
        Series("random index", places, [row[key] for row in theirs], "dark", "dashed"),
    ]
    return line_chart(both, x_label, y_label, y_low=0.0)


def _group_chart(quality: Mapping[str, Any]) -> str:
    from gream_ext.extras.report.svg import Series, line_chart

    largest = max(quality["largest_group"], quality["random"]["largest_group"])
    if largest < 2:
        return ""
    places = [float(size) for size in range(2, largest + 1)]
    counts = [
        [float(one["group_sizes"].get(str(int(size)), 0)) for size in places] for one in (quality, quality["random"])
    ]
    both = [
        Series("this index", places, counts[0], "ours"),
        Series("random index", places, counts[1], "dark", "dashed"),
    ]
    return line_chart(both, "items in a group", "groups", y_low=0.0)


def _card(title: str, note: str, chart: str) -> str:
    return f"<figure class='card'><h3>{escape(title)}</h3><figcaption>{escape(note)}</figcaption>{chart}</figure>"
