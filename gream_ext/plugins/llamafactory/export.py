"""The path without any substitution: all epochs, in the order of the curriculum, in one file."""

import json
import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gream_ext.corpus.files import TAGS
from gream_ext.curriculum import ALIGN, REASON, Curriculum
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace, whole

NAME = "ordered"
"""The data set in the exported folder."""


BOTH = ("align", "reason")


def corpus_tags(workspace: Workspace, datasets: Sequence[str] = BOTH) -> tuple[np.ndarray, np.ndarray]:
    """Kind and epoch (0: every epoch) of each row of the corpus, in the order of the recipe's ``dataset``."""
    kinds, epochs = array("b"), array("i")
    for kind, path in _files(workspace, datasets).items():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                epoch = _epoch(path, number, line)
                kinds.append(kind)
                epochs.append(epoch)
    return np.array(kinds, np.int8), np.array(epochs, np.int32)


def _files(workspace: Workspace, datasets: Sequence[str]) -> dict[int, Path]:
    known = {"align": (ALIGN, workspace.align), "reason": (REASON, workspace.reason)}
    for name in datasets:
        path = known[name][1]
        if not path.exists():
            raise GreamError(f"{path} is missing: run `gream corpus {name}` first, or give align_rows and reason_rows")
    return dict(known[name] for name in datasets)


def _epoch(path: Path, number: int, line: bytes) -> int:
    try:
        return int(json.loads(line).get("epoch") or 0)
    except (ValueError, AttributeError, TypeError) as error:
        raise GreamError(f"{path}, line {number} is damaged ({error}): make the corpus again") from None


def export(workspace: Workspace, curriculum: Curriculum, folder: Path, datasets: Sequence[str] = BOTH) -> None:
    """Write the rows in the order in which the sampler hands them out, and the ``dataset_info.json`` for them.

    They have the format ``sharegpt``, which LLaMA-Factory reads without our hook.
    """
    from tqdm import tqdm

    if folder.exists() and any(folder.iterdir()):
        raise GreamError(f"{folder} is not empty: export into a new folder")
    files = [path.open("rb") for path in _files(workspace, datasets).values()]
    try:
        places = [(file, start) for file in files for start in _line_starts(file)]
        info = {
            "file_name": f"{NAME}.jsonl",
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": TAGS,
        }
        with whole(folder) as draft:
            draft.mkdir()
            with (draft / f"{NAME}.jsonl").open("w", encoding="utf-8") as out:
                for share in tqdm(range(curriculum.settings.epochs), desc="curriculum export", file=sys.stderr):
                    for row in (row for batch in curriculum.share(share) for row in batch):
                        file, start = places[row]
                        file.seek(start)
                        messages = json.loads(file.readline())["messages"]
                        out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
            (draft / "dataset_info.json").write_text(json.dumps({NAME: info}, indent=2), encoding="utf-8")
    finally:
        for file in files:
            file.close()


def _line_starts(file: BinaryIO) -> list[int]:
    starts, place = [], 0
    for line in file:
        starts.append(place)
        place += len(line)
    return starts
