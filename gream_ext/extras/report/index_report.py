"""Stage ``index report``: how good the item index is."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from gream_ext.data.histories import training_histories
from gream_ext.extras.report.index_page import quality_page
from gream_ext.items.build import read_embeddings
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import index_measures, random_codes
from gream_ext.items.quality_table import beside_random, quality_table, shared_table
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEM_INDEX, ITEMS, Workspace, read_json, read_metadata, read_table, whole, write_json

REPORT, PAGE = "index_report.json", "index_report.html"


@dataclass(frozen=True)
class ReportSettings:
    seed: int = option(0, help="Draws the random index and the pairs of items that are compared.")


def run(workspace: Workspace, settings: ReportSettings) -> None:
    """Print the report and write index_report.json and index_report.html."""
    index = ItemIndex.load(workspace.item_index)
    slot = read_metadata(workspace.item_index, ITEM_INDEX, "index build").get("conflict_slot", "always") != "none"
    codes, sizes = (index.codes[:, :-1], index.sizes[:-1]) if slot else (index.codes, index.sizes)
    items = read_table(workspace.items, ITEMS, "prepare")
    categories = dict(zip(items["item_id"].to_list(), items["categories"].to_list(), strict=True))
    about = [categories.get(item_id) or [] for item_id in index.item_ids]
    vectors = _vectors(workspace, index, items["item_id"].to_list())
    neighbours = _neighbours(workspace, index)
    measured = partial(index_measures, vectors=vectors, categories=about, neighbours=neighbours, seed=settings.seed)
    quality = measured(codes, sizes, errors=_built_errors(workspace, codes, sizes))
    quality["random"] = measured(random_codes(len(codes), sizes, settings.seed), sizes)
    write_json(workspace.path(REPORT), quality)
    with whole(workspace.path(PAGE)) as draft:
        draft.write_text(quality_page(quality), encoding="utf-8")
    show(workspace, settings)


def show(workspace: Workspace, settings: ReportSettings) -> None:
    """Print what index_report.json holds."""
    quality = read_json(workspace.path(REPORT), "index report")
    shared = shared_table(quality["shared_levels"], quality["random"]["shared_levels"])
    print(quality_table(quality), beside_random(quality), shared, sep="\n\n")
    print(f"\nplots: {workspace.path(PAGE)}")


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


def _reads(workspace: Workspace, settings: ReportSettings) -> Sequence[Path]:
    files = [workspace.item_index, workspace.items, workspace.interactions]
    return [*files, *(path for path in [workspace.embeddings, workspace.path("index_quality.json")] if path.exists())]


def _writes(workspace: Workspace, settings: ReportSettings) -> Sequence[Path]:
    return workspace.path(REPORT), workspace.path(PAGE)


STAGE = Stage(name="index report", settings=ReportSettings, run=run, reads=_reads, writes=_writes, show=show)
