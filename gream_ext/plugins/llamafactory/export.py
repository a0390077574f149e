"""The rows of the corpus: their kinds and epochs, and all epochs in the order of the curriculum in one file."""

import json
from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gream_ext.corpus.files import TAGS, dataset_info_path
from gream_ext.curriculum import Curriculum
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import GENERAL, dataset_kinds
from gream_ext.progress import progress
from gream_ext.workspace import Workspace, read_json, whole

NAME = "ordered"
"""The data set in the exported folder."""
BOTH = ("align", "reason")


def corpus_files(workspace: Workspace, datasets: Sequence[str] = BOTH, general_share: float = 0.0) -> dict[Path, int]:
    """The file of each data set of the recipe and the kind of its rows, as the corpus' dataset_info.json has them."""
    usual = {name: {"file_name": f"{name}.jsonl", "formatting": f"gream_{name}"} for name in BOTH}
    info = dataset_info_path(workspace)
    entries: Mapping[str, Mapping[str, Any]] = read_json(info, "corpus align") if info.exists() else usual
    if missing := [name for name in datasets if name not in entries]:
        raise GreamError(f"dataset is {','.join(datasets)}, and {info} has no {missing[0]}")
    kinds = dataset_kinds({name: entries[name] for name in datasets}, general_share)
    files = {}
    for name, kind in kinds.items():
        path = workspace.corpus / str(entries[name].get("file_name"))
        if path.suffix != ".jsonl":
            raise GreamError(f"dataset {name} is no .jsonl file, which is all that the plan reads: use numbers of rows")
        if not path.exists():
            made = f"run `gream corpus {name}` first" if name in BOTH else "write it"
            raise GreamError(f"{path} is missing: {made}, or give align_rows and reason_rows")
        files[path] = kind
    return files


def corpus_tags(files: Mapping[Path, int]) -> tuple[np.ndarray, np.ndarray]:
    """Kind and epoch (0: every epoch) of each row of these files, in their order: int32 [rows] each."""
    kinds, epochs = array("i"), array("i")
    for path, kind in files.items():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if kind != GENERAL or line.strip():
                    kinds.append(kind)
                    epochs.append(_epoch(path, number, line) if kind != GENERAL else 0)
    return np.array(kinds, np.int32), np.array(epochs, np.int32)


def _epoch(path: Path, number: int, line: bytes) -> int:
    try:
        return int(json.loads(line).get("epoch") or 0)
    except (ValueError, AttributeError, TypeError) as error:
        raise GreamError(f"{path}, line {number} is damaged ({error}): make the corpus again") from None


def export(files: Mapping[Path, int], curriculum: Curriculum, folder: Path) -> None:
    """Write the rows in the order in which the sampler hands them out, and the ``dataset_info.json`` for them.

    They have the format ``sharegpt``, which LLaMA-Factory reads without our hook.
    """
    if general := [path.stem for path, kind in files.items() if kind == GENERAL]:
        raise GreamError(f"export writes alignment and reasoning rows: leave {general[0]} out of dataset")
    if folder.exists() and any(folder.iterdir()):
        raise GreamError(f"{folder} is not empty: export into a new folder")
    info = {"file_name": f"{NAME}.jsonl", "formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": TAGS}
    with whole(folder) as draft, ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in files]
        places = [(file, start) for file in opened for start in _line_starts(file)]
        draft.mkdir()
        (draft / "dataset_info.json").write_text(json.dumps({NAME: info}, indent=2), encoding="utf-8")
        out = stack.enter_context((draft / f"{NAME}.jsonl").open("w", encoding="utf-8"))
        for share in progress(range(curriculum.settings.epochs), desc="curriculum export", unit=" epochs"):
            for row in (row for batch in curriculum.share(share) for row in batch):
                file, start = places[row]
                file.seek(start)
                out.write(json.dumps({"messages": json.loads(file.readline())["messages"]}, ensure_ascii=False) + "\n")


def _line_starts(file: BinaryIO) -> list[int]:
    starts, place = [], 0
    for line in file:
        starts.append(place)
        place += len(line)
    return starts
