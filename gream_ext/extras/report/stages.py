"""The stages ``report``, from whatever a workspace holds so far, and ``index report``."""

import re
from dataclasses import dataclass
from pathlib import Path

from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace

TRIAL = re.compile(r"-first\d+$")
"""The files of `evaluate --limit`, which are no result."""
READ = ("interactions.parquet", "items.parquet", "item_index.parquet", "index_quality.json", "index_report.json",
        "rl/metrics.jsonl", "sft/curriculum_log.jsonl", "sft/trainer_log.jsonl")  # fmt: skip
INDEX_REPORT, INDEX_PAGE = "index_report.json", "index_report.html"
READ_OF_ALL = ("statistics.json", "evaluation/**/*-*.json", "evaluation/**/*-*.parquet", "stages/*.json")
"""Patterns of what is read of other runs, too."""


@dataclass(frozen=True)
class ReportSettings:
    title: str | None = option(None, help="title of the page")
    users: int = option(4, least=0, help="test users to show with their histories and recommendations")
    seed: int = option(0, help="seed by which these users are drawn")
    other_runs: list[str] = option([], help="workspaces of the same flow with other seeds, to compare over seeds")
    banner: str | None = option(None, help="a line at the top of the page, e.g. that the data are made up")


@dataclass(frozen=True)
class IndexReportSettings:
    seed: int = option(0, help="Draws the random index and the pairs of items that are compared.")


def _reads(workspace: Workspace, settings: ReportSettings) -> list[Path]:
    """Everything there is; what a later stage adds makes the report out of date."""
    found = [
        path
        for place in (workspace, *map(Workspace, settings.other_runs))
        for pattern in READ_OF_ALL
        for path in place.root.glob(pattern)
        if path.name != "report.json" and not TRIAL.search(path.stem)
    ]
    return [path for path in (*map(workspace.path, READ), *sorted(found)) if path.exists()]


def _index_reads(workspace: Workspace, settings: IndexReportSettings) -> list[Path]:
    files = [workspace.item_index, workspace.items, workspace.interactions]
    return [*files, *(path for path in [workspace.embeddings, workspace.path("index_quality.json")] if path.exists())]


STAGE = Stage(
    name="report",
    settings=ReportSettings,
    run=Later("gream_ext.extras.report.page:run", extra="report"),
    reads=_reads,
    writes=lambda workspace, settings: [workspace.path("report.json"), workspace.path("report.html")],
    show=Later("gream_ext.extras.report.page:show", extra="report"),
)
INDEX = Stage(
    name="index report",
    settings=IndexReportSettings,
    run=Later("gream_ext.extras.report.index_report:run", extra="report"),
    reads=_index_reads,
    writes=lambda workspace, settings: [workspace.path(INDEX_REPORT), workspace.path(INDEX_PAGE)],
    show=Later("gream_ext.extras.report.index_report:show", extra="report"),
)
