"""Stage ``report``: report.json and report.html from whatever a workspace holds so far, and a table on the terminal."""

import re
from dataclasses import dataclass
from pathlib import Path

from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole, write_json

TRIAL = re.compile(r"-first\d+$")
"""The files of `evaluate --limit`, which are no result."""


@dataclass(frozen=True)
class ReportSettings:
    title: str | None = option(None, help="title of the page")
    users: int = option(4, least=0, help="test users to show with their histories and recommendations")
    seed: int = option(0, help="seed by which these users are drawn")
    other_runs: list[str] = option([], help="workspaces of the same flow with other seeds, to compare over seeds")
    banner: str | None = option(None, help="a line at the top of the page, e.g. that the data are made up")


def run(workspace: Workspace, settings: ReportSettings) -> None:
    from gream_ext.extras.report.curves import rl_steps, sft_steps
    from gream_ext.extras.report.data import gather, title_paths
    from gream_ext.extras.report.page import page, terminal_text
    from gream_ext.extras.report.users import users

    report = gather(workspace, title_paths(workspace, settings.other_runs), settings.title)
    shown = users(workspace, settings.users, settings.seed)
    text = page(report, sft_steps(workspace), rl_steps(workspace), shown, settings.banner or "")
    write_json(workspace.path("report.json"), report)
    with whole(workspace.path("report.html")) as draft:
        draft.write_text(text, encoding="utf-8")
    print(terminal_text(report))
    print(f"report: {workspace.path('report.html')}")


def _reads(workspace: Workspace, settings: ReportSettings) -> list[Path]:
    """Everything there is; what a later stage adds makes the report out of date."""
    names = (
        "interactions.parquet",
        "index_quality.json",
        "index_report.json",
        "rl/metrics.jsonl",
        "sft/curriculum_log.jsonl",
    )
    fixed = [workspace.path(name) for name in names]
    patterns = ("statistics.json", "evaluation/**/*-*.json", "evaluation/**/*-*.parquet", "stages/*.json")
    found = [
        path
        for place in (workspace, *map(Workspace, settings.other_runs))
        for pattern in patterns
        for path in place.root.glob(pattern)
        if path.name != "report.json" and not TRIAL.search(path.stem)
    ]
    return [path for path in (*fixed, *sorted(found)) if path.exists()]


STAGE = Stage(
    name="report",
    settings=ReportSettings,
    run=run,
    reads=_reads,
    writes=lambda workspace, settings: [workspace.path("report.json"), workspace.path("report.html")],
)
