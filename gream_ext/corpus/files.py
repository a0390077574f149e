"""The files that LLaMA-Factory reads: JSON lines of chat messages, and the list of data sets beside them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from gream_ext.errors import GreamError
from gream_ext.progress import progress as progress_bar
from gream_ext.workspace import Workspace, read_json, read_lines, whole, write_json

Kind = Literal["align", "reason"]
Row = dict[str, Any]
TAGS = {f"{tag}_tag": tag for tag in ("role", "content", "user", "assistant", "system")}


def write_rows(path: Path, rows: Iterable[Row], total: int, label: str) -> int:
    """Stream rows to a JSON lines file, whole or not at all, with a progress bar; returns how many."""
    count = 0
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for row in progress_bar(rows, total=total, desc=label, unit=" rows"):
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def read_rows(path: Path, made_by: str) -> Iterator[Row]:
    """Stream the rows of a JSON lines file; `GreamError` names a missing file or a damaged line."""

    def checked(row: Any) -> Row:
        if not (isinstance(row, dict) and {"kind", "task", "messages"} <= row.keys()):
            raise ValueError("not a training row")
        return row

    try:
        yield from read_lines(path, made_by, checked)
    except FileNotFoundError:
        raise GreamError(f"{path} is missing: run `gream {made_by}` first") from None


def dataset_info_path(workspace: Workspace) -> Path:
    return workspace.corpus / "dataset_info.json"


def rejected_path(workspace: Workspace) -> Path:
    """Answers that did not pass, with their reasons."""
    return workspace.corpus / "rejected.jsonl"


def write_dataset_info(workspace: Workspace) -> None:
    """List both data sets for LLaMA-Factory, always in the same words; what the user lists beside them stays.

    The converters ``gream_align`` and ``gream_reason`` find the field ``epoch`` of a row by themselves.
    """
    entries = {
        kind: {
            "file_name": f"{kind}.jsonl",
            "formatting": f"gream_{kind}",
            "columns": {"messages": "messages"},
            "tags": TAGS,
        }
        for kind in ("align", "reason")
    }
    path = dataset_info_path(workspace)
    others = read_json(path, "corpus align") if path.exists() else {}
    write_json(path, {**others, **entries})


def row(kind: Kind, task: str, epoch: int | None, messages: list[dict[str, str]], **more: str) -> Row:
    """One training row; without ``epoch`` it belongs to every epoch."""
    return {"kind": kind, "task": task, **({} if epoch is None else {"epoch": epoch}), **more, "messages": messages}
