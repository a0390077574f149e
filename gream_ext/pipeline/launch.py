"""Run a framework's own launcher: its output in a log, its steps on one progress bar, and no process left behind."""

import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from gream_ext.drafts import naming
from gream_ext.errors import GreamError
from gream_ext.pipeline.processes import MARK, descendants, end_with_parent, mark, scratch, sweep, undisturbed
from gream_ext.progress import progress as progress_bar
from gream_ext.progress import step_format
from gream_ext.workspace import Workspace

POLL = 0.5
"""Seconds between two looks at whether the launcher still runs."""

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # several processes with all threads each get in each other's way: 9 times slower
    "KMP_BLOCKTIME": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
    # glibc gives large blocks back at once, so that every step faults its memory in again: a quarter of the time.
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",  # models are folders of the workspace; no look-up may wait for a network
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "PYTHONUNBUFFERED": "1",
}
"""What a launcher's environment says unless the caller's already says something else."""

COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
BAR = re.compile(
    r"^(?:\(\w+ pid=\d+[^)]*\)\s*)?"  # how Ray begins the lines of its workers
    r"(?P<name>.*?)\s*(?P<share>\d+%)\|[^|]*\|\s*(?P<done>\d+)/(?P<total>\d+) \["
)
ERROR = re.compile(r"^(?:\S+\.)?([A-Za-z_]*(?:Error|Exception|Interrupt|Exit))(?::|$)")


class LaunchError(GreamError):
    """A framework's launcher failed."""

    exit_code = 1


@dataclass(frozen=True)
class Progress:
    """Where a launcher is, read off a line of its output; None where the line does not say."""

    done: int | None = None
    total: int | None = None
    note: str | None = None
    phase: str | None = None
    """What it does before its first step, in words."""
    said: str | None = None
    """A line that people shall see."""


def bar_progress(line: str, name: str) -> Progress | None:
    """Read a tqdm bar called ``name`` (``""``: a bar without a name)."""
    found = BAR.match(line)
    if not found or found["name"].strip().rstrip(":") != name:
        return None
    return Progress(int(found["done"]), int(found["total"]))


def phase_of(line: str) -> Progress | None:
    """What the framework does before it trains: it names the bar of each such part."""
    found = BAR.match(line)
    name = found["name"].strip().rstrip(":") if found else ""
    return Progress(phase=f"{name} {found['share']}") if found and name else None


def child_environment(workspace: Workspace, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a launcher: ours, the interpreter's bin folder first on PATH, a Ray of its own, the mark."""
    environment = {**ENVIRONMENT, **os.environ}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    own_ray = {"RAY_ADDRESS": "local", "RAY_TMPDIR": str(scratch(workspace))}
    return {**environment, **own_ray, **(extra or {}), MARK: mark(workspace)}


def launch(
    command: Sequence[str],
    *,
    name: str,
    workspace: Workspace,
    progress: Callable[[str], Progress | None] = lambda line: None,
    phase: str = "starting",
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run ``command`` to its end, its output in ``logs/<name>.log``; ``phase`` says what it does first.

    The caller holds the workspace's lock: whatever still runs for this workspace is what an earlier run left, and is
    ended first. However this function ends, nothing of the launcher runs on; it is told to end when this process dies.

    Raises:
        LaunchError: with the last telling lines of the output, if the launcher fails.
    """
    others = descendants()
    with undisturbed():
        sweep(workspace, spared=others)
    log = workspace.log(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    scratch(workspace).mkdir(mode=0o700, parents=True, exist_ok=True)
    recent: deque[str] = deque(maxlen=400)
    child: subprocess.Popen[bytes] | None = None
    bar = Bar(name, phase)
    try:
        with naming(log), log.open("a", encoding="utf-8") as file:
            file.write(f"$ {shlex.join(command)}\n")
            file.flush()
            child = subprocess.Popen(
                command,
                env=child_environment(workspace, environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
            for line in lines(child):
                bar.show((progress(line) or phase_of(line)) if line else None)
                if line and not BAR.match(line):
                    recent.append(line)
                    file.write(line + "\n")
                    file.flush()
        code = child.wait()
    finally:
        with undisturbed():
            bar.close()
            if child and child.poll() is None:
                child.terminate()
            sweep(workspace, spared=others)
            if child:
                child.wait()
    if code:
        raise LaunchError(failure(name, code, list(recent), log))


def lines(child: "subprocess.Popen[bytes]") -> Iterator[str]:
    """The child's output by lines (``\\r`` ends one too), ``""`` now and then; ends soon after the child does.

    Not at the end of the pipe: a daemon of the child may hold that open for long.
    """
    stream: IO[bytes] = child.stdout  # type: ignore[assignment]
    os.set_blocking(stream.fileno(), False)
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = child.poll() is not None
            chunk = stream.read(65536) if selector.select(0.0 if ended else POLL) else None
            if chunk:
                *whole, rest = re.split(rb"[\r\n]+", rest + chunk)
                yield from (_text(line) for line in whole)
            elif ended:
                break
            elif chunk == b"":
                time.sleep(POLL)  # it closed its output and still runs
            yield ""
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return COLOUR.sub("", line.decode("utf-8", errors="replace")).rstrip()


class Bar:
    """What the launcher does, in words until it says how many steps there are, then its steps."""

    def __init__(self, name: str, phase: str):
        self.name = name
        self.bar = progress_bar(desc=f"{name}: {phase}", unit=" steps", bar_format="{desc}, {elapsed} elapsed")
        self.close = self.bar.close

    def show(self, progress: Progress | None) -> None:
        bar, now = self.bar, progress or Progress()
        if now.said:
            bar.write(now.said, file=sys.stderr)
        if now.phase and bar.total is None:
            bar.set_description_str(f"{self.name}: {now.phase}", refresh=False)
        if now.total is not None:
            bar.total, bar.bar_format = now.total, step_format()
            bar.set_description_str(self.name, refresh=False)
        if now.note is not None:
            bar.set_postfix_str(now.note, refresh=False)
        bar.update(0 if now.done is None else now.done - bar.n)


def failure(name: str, code: int, output: Sequence[str], log: Path) -> str:
    """What to say of a launcher that ended with ``code``: the errors that its last lines name, and where the log is."""
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    lines = [re.sub(r"^\([^()]*pid=\d+[^()]*\)\s*|^\[rank\d+\]:\s*", "", line).strip() for line in output]
    telling = [line for line in lines if ERROR.match(line)] or [line for line in lines if line][-3:]
    told = [line.removeprefix("gream_ext.errors.GreamError: ") for line in dict.fromkeys(telling)][-3:]
    return "\n".join([f"{name}: the launcher {how}; its log is {log}", *(f"  {line[:500]}" for line in told)])
