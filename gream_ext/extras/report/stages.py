"""Stage ``report``: report.json, report.html and results.md from whatever a workspace holds so far."""

import re
from dataclasses import dataclass
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.extras.report.table import markdown_table, results_table, terminal_text
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole, write_json

TRIAL = re.compile(r"-first\d+$")
"""The files of `evaluate --limit`, which are no result."""
READ = ("interactions.parquet", "items.parquet", "item_index.parquet", "index_quality.json", "index_report.json",
        "rl/metrics.jsonl", "sft/curriculum_log.jsonl", "sft/trainer_log.jsonl")  # fmt: skip
READ_OF_ALL = ("statistics.json", "evaluation/**/*-*.json", "evaluation/**/*-*.parquet", "stages/*.json")
"""Patterns of what is read of other runs, too."""


@dataclass(frozen=True)
class ReportSettings:
    title: str | None = option(None, help="title of the page")
    users: int = option(4, least=0, help="test users to show with their histories and recommendations")
    seed: int = option(0, help="seed by which these users are drawn")
    other_runs: list[str] = option([], help="workspaces of the same flow with other seeds, to compare over seeds")
    banner: str | None = option(None, help="a line at the top of the page, e.g. that the data are made up")


def run(workspace: Workspace, settings: ReportSettings) -> None:
    try:
        from gream_ext.extras.report.page import page
    except ModuleNotFoundError as error:
        raise GreamError(f"the report needs {error.name}: pip install 'gream-ext[report]'") from None
    from gream_ext.extras.report.curves import rl_steps, sft_steps
    from gream_ext.extras.report.data import gather, other_workspaces
    from gream_ext.extras.report.users import users

    report = gather(workspace, other_workspaces(workspace, settings.other_runs), settings.title)
    shown = users(workspace, settings.users, settings.seed)
    texts = {"report.html": page(report, sft_steps(workspace), rl_steps(workspace), shown, settings.banner or "")}
    if table := results_table(report):
        texts["evaluation/results.md"] = markdown_table(table)
    write_json(workspace.path("report.json"), report)
    for name, text in texts.items():
        with whole(workspace.path(name)) as draft:
            draft.write_text(text, encoding="utf-8")
    print(terminal_text(report))
    print(f"report: {workspace.path('report.html')}")


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


STAGE = Stage(
    name="report",
    settings=ReportSettings,
    run=run,
    reads=_reads,
    writes=lambda workspace, settings: [workspace.path("report.json"), workspace.path("report.html")],
)
