"""Run one stage or command the way the command line does: one at a time in a workspace, skipped if up to date."""

from typing import Any

from gream_ext.pipeline.lock import lock
from gream_ext.pipeline.record import is_command, run_stage
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace


def execute(stage: Stage, workspace: Workspace, settings: Any, force: bool = False) -> None:
    """Run the stage unless it is up to date, and say which.

    Raises:
        GreamError: from the stage, or because another run holds the workspace.
    """
    if is_command(stage, workspace, settings):
        stage.run(workspace, settings)
        return
    with lock(workspace):
        outcome = run_stage(stage, workspace, settings, force)
    label = stage.label_of(settings)
    print(f"{label}: done in {duration(outcome.seconds)}" if outcome.ran else f"{label}: up to date")


def duration(seconds: float) -> str:
    """``3.2 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
