"""Records of stages: what a stage made of what, so that it runs only when that does not hold any more.

``stages/<label>.json`` in the workspace says what made the stage's files: versions, settings, hashes of what was read
and written, seconds. A stage is up to date while the settings that results depend on and the contents of what it reads
are those of the record, and what it wrote stands unchanged. The folder in which a framework trains carries the same
identity: an interrupted training goes on there as long as it holds.
"""

import datetime
import hashlib
import importlib.metadata
import json
import platform
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext import __version__
from gream_ext.pipeline.settings import changed, plain
from gream_ext.plugins.recipes import recipes_folder
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace, write_json

FRAMEWORKS = ("torch", "transformers", "llamafactory", "verl", "sglang")
ATTEMPT = "gream_attempt.json"
"""In a training folder: the settings and inputs that it belongs to."""
TRAINED = "gream_trained"
"""In a training folder: the launcher has ended well, only what follows it is left."""
DRAFT = re.compile(r"(^|/)\.[^/]*\.part/")

Fingerprint = dict[str, Any]
"""``{"sha256": str, "files": {name: [size, mtime_ns, sha256]}}``; a file's own name in it is ``""``."""


def fingerprint(path: Path, known: Mapping[str, Any] | None = None) -> Fingerprint | None:
    """The contents of a file, or of all files below a folder with their names; None if there is nothing.

    ``known`` is an earlier fingerprint of the same path, whose hashes are taken where size and time of change agree.
    """
    if not path.exists():
        return None
    names = [""]
    if path.is_dir():
        found = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        names = sorted(name for name in found if not DRAFT.search(name))
    earlier = (known or {}).get("files", {})
    files = {name: _file(path / name if name else path, earlier.get(name)) for name in names}
    listing = "".join(f"{name}\0{entry[2]}\n" for name, entry in files.items())
    return {"sha256": hashlib.sha256(listing.encode()).hexdigest() if path.is_dir() else files[""][2], "files": files}


def _file(path: Path, known: list[Any] | None) -> list[Any]:
    stat = path.stat()
    if known and known[:2] == [stat.st_size, stat.st_mtime_ns]:
        return list(known)
    with path.open("rb") as file:
        return [stat.st_size, stat.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]


def digest(value: Fingerprint | None) -> str | None:
    """The one hash of a fingerprint."""
    return value["sha256"] if value else None


def fingerprints(paths: Sequence[Path], workspace: Workspace, known: Mapping[str, Any]) -> dict[str, Any]:
    """By names that stay when workspace or checkout move: relative to the workspace, or to the shipped recipes."""
    found, shipped = {}, recipes_folder()
    for path in paths:
        if path.is_relative_to(workspace.root):
            name = path.relative_to(workspace.root).as_posix()
        else:
            name = f"<recipes>/{path.relative_to(shipped).as_posix()}" if path.is_relative_to(shipped) else str(path)
        found[name] = fingerprint(path, known.get(name))
    return found


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
        record: dict[str, Any] = json.loads(record_path(workspace, label).read_text(encoding="utf-8"))
        float(record.get("seconds", 0.0))
        for one in (*record.get("inputs", {}).values(), *record["outputs"].values()):
            if one is not None:
                str(one["sha256"])
                for size, changed_at, _ in one["files"].values():
                    int(size + changed_at)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return record


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
    if keys := changed(settings, record.get("settings")):
        return f"other settings: {', '.join(keys)}"
    for paths, recorded in (
        (stage.reads(workspace, settings), record.get("inputs", {})),
        (stage.writes(workspace, settings), record["outputs"]),
    ):
        found = fingerprints(paths, workspace, recorded)
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
    earlier = read_record(workspace, label) or {}
    if not force and why_run(stage, workspace, settings) is None:
        return Outcome(ran=False, seconds=float(earlier.get("seconds", 0.0)))
    inputs = fingerprints(stage.reads(workspace, settings), workspace, earlier.get("inputs", {}))
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
    outputs = fingerprints(stage.writes(workspace, settings), workspace, {})
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


def identity(settings: Any, reads: Sequence[Path]) -> dict[str, Any]:
    """What makes two attempts the same training: the settings, and what is in the files read."""
    return {"settings": plain(settings), "inputs": [digest(fingerprint(path)) for path in reads]}


def open_attempt(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Make ``folder`` ready for this training; returns whether an earlier attempt had trained to the end already.

    What lies there of another training goes: a checkpoint of other data or another model must never be resumed.
    """
    try:
        same = json.loads((folder / ATTEMPT).read_text(encoding="utf-8")) == wanted
    except (OSError, ValueError):
        same = False
    if not same:
        shutil.rmtree(folder, ignore_errors=not folder.exists())
        write_json(folder / ATTEMPT, dict(wanted))
    return (folder / TRAINED).exists()


def mark_trained(folder: Path) -> None:
    (folder / TRAINED).touch()


def versions() -> dict[str, str]:
    """Of Python, of gream_ext and of the frameworks that are installed."""
    found = {"python": platform.python_version(), "gream_ext": __version__}
    for name in FRAMEWORKS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
