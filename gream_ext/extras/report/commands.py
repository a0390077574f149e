"""What ``report`` does."""

from gream_ext.extras.report.curves import rl_steps, sft_steps
from gream_ext.extras.report.data import gather, other_workspaces
from gream_ext.extras.report.page import page
from gream_ext.extras.report.stages import ReportSettings
from gream_ext.extras.report.table import markdown_table, results_table, terminal_text
from gream_ext.extras.report.users import users
from gream_ext.workspace import Workspace, read_json, whole, write_json


def run(workspace: Workspace, settings: ReportSettings) -> None:
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


def show(workspace: Workspace, settings: ReportSettings) -> None:
    """The table of a report that was not written anew."""
    print(terminal_text(read_json(workspace.path("report.json"), "report")))
