"""How good the item index is: measured, printed, and as a page with its plots in it."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from gream_ext.data.histories import training_histories
from gream_ext.extras.report.plot import TONES, label, picture
from gream_ext.extras.report.stages import INDEX_PAGE, INDEX_REPORT, IndexReportSettings
from gream_ext.items.build import read_embeddings
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import index_measures, random_codes
from gream_ext.items.quality_table import beside_random, quality_table, shared_table
from gream_ext.workspace import ITEM_INDEX, ITEMS, Workspace, read_json, read_metadata, read_table, whole, write_json

PLOTS = (
    ("Perplexity", "How many evenly used codes a level amounts to.", "levels", "perplexity", "level"),
    ("Utilisation", "Share of a level's codes that occur.", "levels", "utilisation", "level"),
    ("Quantisation error", "Mean squared length of what a level leaves.", "levels", "quantisation_error", "level"),
    ("Same category", "Share of pairs with a category in common.", "shared_levels", "share_category", "shared levels"),
    ("Next to each other", "Share of pairs that follow one another.", "shared_levels", "next_item", "shared levels"),
)
"""Of each plot title, caption, group of figures, figure and name of the x axis."""


def run(workspace: Workspace, settings: IndexReportSettings) -> None:
    """Print the report and write index_report.json and index_report.html."""
    index = ItemIndex.load(workspace.item_index)
    slot = read_metadata(workspace.item_index, ITEM_INDEX, "index build").get("conflict_slot", "always") != "none"
    codes, sizes = (index.codes[:, :-1], index.sizes[:-1]) if slot else (index.codes, index.sizes)
    items = read_table(workspace.items, ITEMS, "prepare")
    categories = dict(items.select("item_id", "categories").rows())
    named = [categories.get(item_id) or [] for item_id in index.item_ids]
    vectors = _vectors(workspace, index, items["item_id"].to_list())
    neighbours = _neighbours(workspace, index)
    measured = partial(index_measures, vectors=vectors, categories=named, neighbours=neighbours, seed=settings.seed)
    quality = measured(codes, sizes, errors=_built_errors(workspace, codes, sizes))
    quality["random"] = measured(random_codes(len(codes), sizes, settings.seed), sizes)
    write_json(workspace.path(INDEX_REPORT), quality)
    with whole(workspace.path(INDEX_PAGE)) as draft:
        draft.write_text(quality_page(quality), encoding="utf-8")
    show(workspace, settings)


def show(workspace: Workspace, settings: IndexReportSettings) -> None:
    """Print what index_report.json holds."""
    quality = read_json(workspace.path(INDEX_REPORT), "index report")
    shared = shared_table(quality["shared_levels"], quality["random"]["shared_levels"])
    print(quality_table(quality), beside_random(quality), shared, sep="\n\n")
    print(f"\nplots: {workspace.path(INDEX_PAGE)}")


def _built_errors(workspace: Workspace, codes: np.ndarray, sizes: Sequence[int]) -> list[float] | None:
    """The errors that `gream index build` wrote, as long as they are those of these codes."""
    path = workspace.path("index_quality.json")
    if not path.exists():
        return None
    built = read_json(path, "index build")
    errors = [level["quantisation_error"] for level in built["levels"]]
    same = built["items"] == len(codes) and [level["size"] for level in built["levels"]] == list(sizes)
    return errors if same and None not in errors and "reassigned" not in built else None


def _vectors(workspace: Workspace, index: ItemIndex, item_ids: Sequence[str]) -> np.ndarray | None:
    """The items' vectors in the order of the index; None where they are not to be had."""
    if not workspace.embeddings.exists():
        return None
    row_of = {item: row for row, item in enumerate(item_ids)}
    rows = [row_of.get(item, -1) for item in index.item_ids]
    return None if -1 in rows else read_embeddings(workspace, len(item_ids))[rows]


def _neighbours(workspace: Workspace, index: ItemIndex) -> np.ndarray:
    """Rows of items that follow one another in a training history, int64 [pairs, 2]."""
    unknown = -1
    ends = np.array([unknown])
    histories = training_histories(workspace).values()
    rows = [np.array([index.position.get(item, unknown) for item in history]) for history in histories]
    line = np.concatenate([part for history in rows for part in (history, ends)] or [ends])
    pairs = np.stack([line[:-1], line[1:]], axis=1)
    return pairs[(pairs != unknown).all(axis=1)]


def quality_page(quality: Mapping[str, Any]) -> str:
    """A page that needs no other file; ``quality`` is what index_report.json holds."""
    templates = files("gream_ext.extras.report") / "templates"
    style = Markup(templates.joinpath("report.css").read_text(encoding="utf-8"))
    tables = beside_random(quality), shared_table(quality["shared_levels"], quality["random"]["shared_levels"])
    page = Environment(autoescape=True).from_string(templates.joinpath("index.html").read_text(encoding="utf-8"))
    return page.render(quality=quality, style=style, tables=tables, charts=charts(quality))


def charts(quality: Mapping[str, Any]) -> list[tuple[str, str, Markup]]:
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


def _lines(
    xs: Sequence[int], both: Sequence[Sequence[float | None]], x_label: str, name: str, whole: str = "x"
) -> Markup:
    """This index solid, a random one dashed."""

    def draw(axes: Any) -> None:
        for ys, tone, style in zip(both, ("ours", "plain"), ("o-", "o--"), strict=True):
            points = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None]
            axes.plot(*zip(*points, strict=True), style, color=TONES[tone], markersize=3) if points else None
        axes.set_ylim(bottom=0)
        label(axes, x_label, name.lower(), whole=whole)

    return picture(f"{name.lower()} over {x_label}", draw)
