"""What ``corpus card`` and ``corpus inspect`` do."""

from collections.abc import Iterator
from pathlib import Path

from transformers import AutoTokenizer

from gream_ext.corpus.files import Row, read_rows, rejected_path
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.card import fault_counts, make_card
from gream_ext.extras.inspect.inspect import rl_rows, samples, show, title_writer
from gream_ext.extras.inspect.stages import CardSettings, InspectSettings, card_path, counted_files, training_files
from gream_ext.progress import progress
from gream_ext.workspace import Workspace, write_json


def run_card(workspace: Workspace, settings: CardSettings) -> None:
    files, inside = counted_files(workspace), workspace.path(settings.tokenizer)
    folder = inside if inside.exists() else Path(settings.tokenizer)
    if not (folder / "tokenizer_config.json").exists():
        raise GreamError(f"{folder} holds no tokenizer: run `gream base-model` first or give --tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    rows = (row for path, made_by in files for row in read_rows(path, made_by))
    bar = progress(rows, desc="corpus card", unit=" rows")
    card = make_card(bar, tokenizer, settings.cutoff, settings.sample)
    rejected = rejected_path(workspace)
    card["tokenizer"] = {"folder": folder.name, "vocabulary": len(tokenizer)}
    card["rejected"] = fault_counts(read_rows(rejected, "corpus reason")) if rejected.exists() else {}
    write_json(card_path(workspace), card)


def run_inspect(workspace: Workspace, settings: InspectSettings) -> None:
    files = training_files(workspace)
    named = title_writer(workspace) if settings.titles else str
    seen: dict[str, int] = {}
    shown = 0
    for data in (*files, "rl") if settings.data == "all" else (settings.data,):
        if settings.data == "all" and data in files and not files[data][0].exists():
            continue
        rows: Iterator[Row] = rl_rows(workspace) if data == "rl" else read_rows(*files[data])
        for row in samples(rows, settings.task, settings.count, settings.skip, seen):
            print(show(row, named))
            shown += 1
    if not shown:
        raise GreamError(_why_nothing(workspace, settings, seen))


def _why_nothing(workspace: Workspace, settings: InspectSettings, seen: dict[str, int]) -> str:
    if not seen:
        return f"{workspace.root} has no such training data: run `gream corpus align` first"
    if settings.task not in ("", *seen):
        return f"--task {settings.task!r} is not in this data: it has {', '.join(seen)}"
    most = seen[settings.task] if settings.task else max(seen.values())
    return f"--skip {settings.skip} passes over all samples: there are {most} of a task at most"
