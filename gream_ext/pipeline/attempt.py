"""The folder in which a framework trains: kept after an interruption, so that the next attempt goes on from there.

It belongs to one set of settings and inputs. Changed ones start from nothing: a checkpoint of other data or of another
model must never be resumed.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gream_ext.pipeline.fingerprint import digest, fingerprint
from gream_ext.pipeline.settings import plain
from gream_ext.workspace import write_json

IDENTITY = "gream_attempt.json"
"""In the training folder: what it belongs to."""
TRAINED = "gream_trained"
"""In the training folder: the launcher has ended well, only what follows it is left."""


def identity(settings: Any, reads: Sequence[Path]) -> dict[str, Any]:
    """What makes two attempts the same training: the settings, and what is in the files read."""
    return {"settings": plain(settings), "inputs": [digest(fingerprint(path)) for path in reads]}


def open_attempt(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Make ``folder`` ready for this training; returns whether an earlier attempt had trained to the end already."""
    try:
        same = json.loads((folder / IDENTITY).read_text(encoding="utf-8")) == wanted
    except (OSError, ValueError):
        same = False
    if not same and folder.exists():
        shutil.rmtree(folder)
    if not same:
        write_json(folder / IDENTITY, dict(wanted))
    return (folder / TRAINED).exists()


def mark_trained(folder: Path) -> None:
    (folder / TRAINED).touch()
