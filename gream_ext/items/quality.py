"""Stage ``index report``: how good the item index is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gream_ext.data.histories import training_histories
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import code_quality, quality_table, shared_levels, shared_table
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEM_INDEX, ITEMS, Workspace, read_json, read_metadata, read_table, write_json

REPORT = "index_report.json"


@dataclass(frozen=True)
class ReportSettings:
    seed: int = option(0, help="Draws the pairs of items that are compared.")


def run(workspace: Workspace, settings: ReportSettings) -> None:
    """Print the report and write index_report.json."""
    index = ItemIndex.load(workspace.item_index)
    slot = read_metadata(workspace.item_index, ITEM_INDEX, "index build").get("conflict_slot", "always") != "none"
    codes, sizes = (index.codes[:, :-1], index.sizes[:-1]) if slot else (index.codes, index.sizes)
    built = workspace.path("index_quality.json")
    errors = None
    if built.exists():
        errors = [level["quantisation_error"] for level in read_json(built, "index build")["levels"]]
    quality = code_quality(codes, sizes, errors if errors and len(errors) == len(sizes) else None)
    items = read_table(workspace.items, ITEMS, "prepare")
    categories = dict(zip(items["item_id"].to_list(), items["categories"].to_list(), strict=True))
    shared = shared_levels(
        codes,
        [categories.get(item_id) or [] for item_id in index.item_ids],
        _neighbours(workspace, index),
        settings.seed,
    )
    write_json(workspace.path(REPORT), {**quality, "shared_levels": shared})
    print(quality_table(quality), shared_table(shared), sep="\n\n")


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
    return workspace.item_index, workspace.items, workspace.interactions


def _writes(workspace: Workspace, settings: ReportSettings) -> Sequence[Path]:
    return (workspace.path(REPORT),)


STAGE = Stage(name="index report", settings=ReportSettings, run=run, reads=_reads, writes=_writes)
