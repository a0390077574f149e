"""The record of a finished stage, and running a stage only when its record does not hold any more.

``stages/<label>.json`` in the workspace says what made the stage's files: versions, settings, hashes of what was read
and written, seconds. A stage is up to date while its settings and the contents of what it reads are those of the
record and what it wrote stands unchanged.
"""

import datetime
import importlib.metadata
import json
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext import __version__
from gream_ext.pipeline.fingerprint import Fingerprint, digest, fingerprint
from gream_ext.pipeline.settings import plain
from gream_ext.plugins.recipes_path import recipes_folder
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace, write_json

FRAMEWORKS = ("torch", "transformers", "llamafactory", "verl", "sglang")


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: whether it ran now, and the seconds that it takes or took."""

    ran: bool
    seconds: float


def slug(label: str) -> str:
    """A label as a file name: ``evaluate sft direct test`` → ``evaluate-sft-direct-test``."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def record_path(workspace: Workspace, label: str) -> Path:
    return workspace.path("stages", f"{slug(label)}.json")


def read_record(workspace: Workspace, label: str) -> dict[str, Any] | None:
    """The record of a finished stage; None if there is none that can be read."""
    try:
        record = json.loads(record_path(workspace, label).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return record if _is_record(record) else None


def _is_record(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("seconds", 0.0), int | float):
        return False
    hashed = [value.get("inputs", {}), value.get("outputs")]
    return all(isinstance(part, dict) and all(map(_is_fingerprint, part.values())) for part in hashed)


def _is_fingerprint(value: Any) -> bool:
    if not isinstance(value, dict):
        return value is None
    files = value.get("files")
    entries = files.values() if isinstance(files, dict) else [None]
    return isinstance(value.get("sha256"), str) and all(
        isinstance(entry, list) and len(entry) == 3 for entry in entries
    )


def is_command(stage: Stage, workspace: Workspace, settings: Any) -> bool:
    """A stage that writes nothing into the workspace: it runs every time and leaves no record."""
    return not stage.writes(workspace, settings)


def why_run(stage: Stage, workspace: Workspace, settings: Any) -> str | None:
    """Why the stage has to run, in a few words; None where it is up to date."""
    if is_command(stage, workspace, settings):
        return "it writes no files"
    record = read_record(workspace, stage.label_of(settings))
    if not record:
        return "it has not run to its end"
    old, new = record.get("settings"), plain(settings)
    if old != new:
        keys = [key for key in new if not isinstance(old, dict) or key not in old or old[key] != new[key]]
        return f"other settings: {', '.join(keys) or 'fewer'}"
    for paths, recorded in (
        (stage.reads(workspace, settings), record.get("inputs", {})),
        (stage.writes(workspace, settings), record["outputs"]),
    ):
        found = _fingerprints(paths, workspace, recorded)
        for name in (*found, *recorded):
            if digest(found.get(name)) != digest(recorded.get(name)) or (name in found) != (name in recorded):
                return f"{name} is {'not there' if found.get(name) is None else 'new or changed'}"
    return None


def run_stage(stage: Stage, workspace: Workspace, settings: Any, force: bool = False) -> Outcome:
    """Run the stage unless it is up to date, and record it.

    Raises:
        GreamError: from the stage. What the record of an earlier run says stays true of the files.
    """
    label = stage.label_of(settings)
    if not force and why_run(stage, workspace, settings) is None:
        record = read_record(workspace, label) or {}
        return Outcome(ran=False, seconds=float(record.get("seconds", 0.0)))
    earlier = read_record(workspace, label) or {}
    inputs = _fingerprints(stage.reads(workspace, settings), workspace, earlier.get("inputs", {}))
    interrupted = record_path(workspace, label).with_suffix(".interrupted")
    earlier_seconds = _seconds_of(interrupted, plain(settings))
    start = time.monotonic()
    try:
        stage.run(workspace, settings)
    except BaseException:
        seconds = round(earlier_seconds + time.monotonic() - start, 3)
        if seconds >= 1:  # no mistake that is named before the work
            write_json(interrupted, {"settings": plain(settings), "seconds": seconds})
        raise
    seconds = round(time.monotonic() - start, 3)
    outputs = _fingerprints(stage.writes(workspace, settings), workspace, {})
    if outputs and all(outputs.values()):
        record = {
            "stage": stage.name,
            "label": label,
            "versions": versions(),
            "settings": plain(settings),
            "inputs": inputs,
            "outputs": outputs,
            "seconds": seconds,
            "interrupted_seconds": earlier_seconds,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        write_json(record_path(workspace, label), record)
        interrupted.unlink(missing_ok=True)
    return Outcome(ran=True, seconds=seconds)


def _seconds_of(path: Path, settings: Any) -> float:
    """What earlier attempts with the same settings took that did not come to their end."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return float(told["seconds"]) if told["settings"] == settings else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def versions() -> dict[str, str]:
    """Of Python, of gream_ext and of the frameworks that are installed."""
    found = {"python": platform.python_version(), "gream_ext": __version__}
    for name in FRAMEWORKS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _name(path: Path, workspace: Workspace) -> str:
    """A name that stays when workspace or checkout move: relative to the workspace, or to the shipped recipes."""
    if path.is_relative_to(workspace.root):
        return path.relative_to(workspace.root).as_posix()
    shipped = recipes_folder()
    return f"<recipes>/{path.relative_to(shipped).as_posix()}" if path.is_relative_to(shipped) else str(path)


def _fingerprints(
    paths: Sequence[Path], workspace: Workspace, known: Mapping[str, Any]
) -> dict[str, Fingerprint | None]:
    names = {_name(path, workspace): path for path in paths}
    return {name: fingerprint(path, known.get(name)) for name, path in names.items()}
