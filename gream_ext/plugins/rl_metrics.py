"""The metrics of a reinforcement run, also when it was interrupted and went on.

verl's file logger (one JSON object a line: ``step`` and ``data``) begins its file anew whenever a
run starts. `keep_earlier` puts the lines aside before that, `read` puts those of one run together again.
"""

import itertools
import json
from pathlib import Path
from typing import Any

from gream_ext.drafts import whole


def earlier(path: Path) -> Path:
    """Where the metrics of interrupted runs are kept: ``metrics.earlier.jsonl`` beside ``metrics.jsonl``."""
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def keep_earlier(path: Path, resuming: bool) -> None:
    """Before a run: put aside what the file holds, for `read` where the run goes on.

    Where it begins anew, what another run left goes into ``metrics.N.jsonl``, N counted from 1: nothing is lost by
    starting, and what is there already is not kept twice.
    """
    lines = _text(path)
    target = earlier(path)
    if not resuming:
        free = next(number for number in itertools.count(1) if not _of_run(path, number).exists())
        target = _of_run(path, free)
        if free > 1 and _of_run(path, free - 1).read_text(encoding="utf-8") == lines:
            return
    if lines:
        with whole(target) as draft:
            draft.write_text(lines, encoding="utf-8")
    if not resuming:
        earlier(path).unlink(missing_ok=True)  # its lines are in the new file


def join(path: Path) -> None:
    """After a run: the metrics of all its attempts in one file."""
    with whole(path) as draft:
        draft.write_text(_text(path), encoding="utf-8")
    earlier(path).unlink(missing_ok=True)


def _text(path: Path) -> str:
    return "".join(json.dumps({"step": row.pop("step"), "data": row}) + "\n" for row in read(path))


def _of_run(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def read(path: Path) -> list[dict[str, Any]]:
    """The metrics of each step, ``step`` among them, in order; where a step was done twice the later ones."""
    lines: dict[int, dict[str, Any]] = {}
    for file in (earlier(path), path):
        for step, data in _lines(file):
            lines.setdefault(step, {}).update(data)
    return [{"step": step, **data} for step, data in sorted(lines.items())]


def _lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Step and metrics of each whole line; a line that was being written when the run died is passed by."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            entry = json.loads(line)
            found.append((int(entry["step"]), dict(entry["data"])))
        except (ValueError, KeyError, TypeError):
            continue
    return found
