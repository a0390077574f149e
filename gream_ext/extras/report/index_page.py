"""The quality of an index as one HTML page with its plots in it."""

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from gream_ext.errors import GreamError
from gream_ext.items.quality_table import beside_random, shared_table

PLOTS = (
    ("Perplexity", "How many evenly used codes a level amounts to.", "levels", "perplexity", "level"),
    ("Utilisation", "Share of a level's codes that occur.", "levels", "utilisation", "level"),
    ("Quantisation error", "Mean squared length of what a level leaves.", "levels", "quantisation_error", "level"),
    ("Same category", "Share of pairs with a category in common.", "shared_levels", "share_category", "shared levels"),
    ("Next to each other", "Share of pairs that follow one another.", "shared_levels", "next_item", "shared levels"),
)
"""Of each plot title, caption, group of figures, figure and name of the x axis."""


def quality_page(quality: Mapping[str, Any]) -> str:
    """A page that needs no other file; ``quality`` is what index_report.json holds."""
    style = files("gream_ext.extras.report").joinpath("templates", "report.css").read_text(encoding="utf-8")
    tables = beside_random(quality), shared_table(quality["shared_levels"], quality["random"]["shared_levels"])
    cards = "".join(
        f"<figure class='card'><h3>{escape(title)}</h3><figcaption>{escape(note)}</figcaption>{chart}</figure>"
        for title, note, chart in charts(quality)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Item index</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{style}</style></head><body><main><h1>Item index</h1><p class='lead'>{quality['items']:,} items, raw "
        f"collision rate {quality['raw_collision_rate']:.2%}, largest group {quality['largest_group']}. Solid: this "
        f"index. Dashed: a random index.</p><div class='two'>{cards}</div>"
        f"{''.join(f'<pre>{escape(table)}</pre>' for table in tables)}</main></body></html>\n"
    )


def charts(quality: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(title, caption, SVG) of each plot; one without figures is left out."""
    both = quality, quality["random"]
    made = []
    for title, note, group, key, x_label in PLOTS:
        if any(row[key] is not None for row in quality[group]):
            xs = [row.get("levels", number) for number, row in enumerate(quality[group], start=1)]
            made.append((title, note, _lines(xs, [[row[key] for row in one[group]] for one in both], x_label, title)))
    largest = max(one["largest_group"] for one in both)
    if largest > 1:
        sizes = range(2, largest + 1)
        counts = [[one["group_sizes"].get(str(size), 0) for size in sizes] for one in both]
        note = "Items of equal codes, before the conflict slot."
        made.append(("Groups", note, _lines(sizes, counts, "items in a group", "groups", "xy")))
    return made


def _lines(xs: Sequence[int], both: Sequence[Sequence[float | None]], x_label: str, name: str, whole: str = "x") -> str:
    """This index solid, a random one dashed."""
    try:
        from gream_ext.extras.report.plot import TONES, label, picture
    except ModuleNotFoundError as error:
        raise GreamError(f"the page of the index needs {error.name}: pip install 'gream-ext[report]'") from None

    def draw(axes: Any) -> None:
        for ys, tone, style in zip(both, ("ours", "plain"), ("o-", "o--"), strict=True):
            points = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]
            axes.plot(*zip(*points, strict=True), style, color=TONES[tone], markersize=3) if points else None
        axes.set_ylim(bottom=0)
        label(axes, x_label, name.lower(), whole=whole)

    return picture(f"{name.lower()} over {x_label}", draw)
