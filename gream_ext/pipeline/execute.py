"""Run one stage or command the way the command line does: one at a time in a workspace, skipped if up to date."""

import fcntl
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gream_ext.drafts import sweep_drafts
from gream_ext.errors import GreamError
from gream_ext.pipeline.processes import MARK, descendants, mark, sweep, undisturbed
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
    with holding(workspace):
        outcome = run_stage(stage, workspace, settings, force)
        if stage.show and not outcome.ran:
            stage.show(workspace, settings)
    label = stage.label_of(settings)
    print(f"{label}: done in {duration(outcome.seconds)}" if outcome.ran else f"{label}: up to date")


@contextmanager
def holding(workspace: Workspace) -> Iterator[None]:
    """Have the workspace to oneself: no other run, no process that an earlier one left, none left afterwards.

    What is started meanwhile inherits the mark by which it is found. Processes of the caller that were there before
    do not have it.
    """
    with lock(workspace):
        before = os.environ.get(MARK)
        os.environ[MARK] = mark(workspace)
        try:
            with undisturbed():
                left = sweep(workspace)
            if left:
                names = ", ".join(f"{number} {name}" for name, number in Counter(left).items())
                print(f"ended what an earlier run had left: {names}", file=sys.stderr)
            for path in sweep_drafts(workspace.root):
                print(f"removed an unfinished {path} of a run that was killed", file=sys.stderr)
            yield
        finally:
            with undisturbed():
                sweep(workspace, spared=descendants())  # Python ends what is still its own
            os.environ.pop(MARK)
            if before is not None:
                os.environ[MARK] = before


@contextmanager
def lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace, for the process that calls.

    The lock is the kernel's (POSIX, so it also holds on network file systems): it ends with the process however that
    ends, and children do not inherit it. A dead process therefore never leaves a lock, only a file.

    Raises:
        GreamError: if another process holds it.
    """
    path = workspace.path(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise GreamError(f"{path} cannot be written ({error.strerror}): name another --workspace") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = path.read_text() or "another run"
            raise GreamError(f"{workspace.root} is in use by {holder}: wait for it or stop it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def duration(seconds: float) -> str:
    """``3.2 s``, ``4 min 05 s``, ``2 h 03 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
