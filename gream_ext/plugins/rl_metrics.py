"""The metrics of a reinforcement run, also when it was interrupted and went on.

verl's file logger (one JSON object a line: ``step`` and ``data``) begins its file anew whenever a
run starts. `keep_earlier` puts the lines aside before that, `read` puts them together again.
"""

import json
import os
from pathlib import Path
from typing import Any


def earlier(path: Path) -> Path:
    """Where the metrics of interrupted runs are kept: ``metrics.earlier.jsonl`` beside ``metrics.jsonl``."""
    return path.with_name(f"{path.stem}.earlier{path.suffix}")


def keep_earlier(path: Path, resuming: bool) -> None:
    """Before a run: keep what the file holds when it goes on, drop it when it begins anew."""
    if not resuming:
        path.unlink(missing_ok=True)
        earlier(path).unlink(missing_ok=True)
    elif path.exists():
        draft = path.with_name(f".{path.name}.part")
        merged = read(path)
        draft.write_text(
            "".join(json.dumps({"step": data.pop("step"), "data": data}) + "\n" for data in merged), encoding="utf-8"
        )
        os.replace(draft, earlier(path))


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
