"""The processes that belong to a workspace, found and ended, and no others.

What a stage starts, a framework's launcher above all, carries a mark in its environment that its children inherit.
Ray's agents overwrite theirs (they rename themselves), but keep files open in Ray's folder, which is this workspace's
own: that gives them away.
"""

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from gream_ext.workspace import Workspace

MARK = "GREAM_WORKSPACE"
GRACE = 8.0
"""Seconds between asking a process to end and ending it."""

PR_SET_PDEATHSIG = 1
"""Of Linux's <sys/prctl.h>."""

HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def mark(workspace: Workspace) -> str:
    """What the environment variable `MARK` says in processes of this workspace."""
    return hashlib.sha256(os.fsencode(workspace.root.resolve())).hexdigest()[:16]


def scratch(workspace: Workspace) -> Path:
    """This workspace's folder for Ray's sockets and logs: short, because the paths of sockets are limited."""
    temporary = tempfile.gettempdir()
    base = Path(temporary if len(temporary) <= 30 else "/tmp")
    return base / f"gream-{os.getuid()}-{mark(workspace)[:8]}"


def end_with_parent() -> Callable[[], None] | None:
    """What a child runs before its program, so that Linux tells it to end when this process dies, by kill -9 too.

    What the child starts is not told: the launchers end their own, and `sweep` finds the rest. None elsewhere.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()  # looked up here: after a fork no lock may be waited for

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def descendants() -> set[int]:
    """The processes that the caller has started and that still belong to it."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def belonging(workspace: Workspace, spared: Collection[int] = ()) -> list[psutil.Process]:
    """Living processes that carry this workspace's mark, never the caller, its ancestors, or those spared."""
    own = {os.getpid(), *(process.pid for process in psutil.Process().parents()), *spared}
    wanted, folder = mark(workspace), str(scratch(workspace)) + os.sep
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid in own or process.pid in found:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get(MARK) == wanted or any(
                file.path.startswith(folder) for file in process.open_files()
            ):
                found[process.pid] = process
                found.update({child.pid: child for child in process.children(recursive=True)})
    return [process for pid, process in found.items() if pid not in own]


def end(processes: Sequence[psutil.Process]) -> None:
    """Ask the processes to end, and end those that have not after `GRACE` seconds."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=GRACE)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=GRACE)


def sweep(workspace: Workspace, spared: Collection[int] = ()) -> list[str]:
    """End every process of this workspace but those spared, and remove its scratch folder; returns their names."""
    ended: list[str] = []
    for _ in range(5):  # what was just being started is found in the next round
        found = belonging(workspace, spared)
        if not found:
            break
        for process in found:
            with contextlib.suppress(psutil.Error):
                ended.append(process.name())
        end(found)
    shutil.rmtree(scratch(workspace), ignore_errors=True)
    return ended


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block is over, so that a second one cannot stop the cleaning."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    # Not by a signal mask: that holds for one thread, and tqdm has another.
    before = {number: signal.signal(number, lambda number, frame: waiting.append(number)) for number in HELD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])
