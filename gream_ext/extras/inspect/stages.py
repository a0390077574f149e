"""The stages ``corpus card`` and ``corpus inspect``: what is in the training data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.corpus.files import Row, read_rows, rejected_path
from gream_ext.errors import GreamError
from gream_ext.progress import progress
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, write_json


@dataclass(frozen=True)
class CardSettings:
    """What the card measures."""

    tokenizer: str = option("base_model", help="folder of the tokenizer, in the workspace or anywhere")
    cutoff: int = option(2048, least=1, help="cutoff_len of the training recipe: longer rows are counted")
    sample: int = option(20_000, least=0, help="rows of each task whose tokens are counted; 0: all")


@dataclass(frozen=True)
class InspectSettings:
    """What is shown."""

    data: Literal["all", "align", "reason", "rejected", "rl"] = option("all", help="which data")
    task: str = option("", help="only this task")
    count: int = option(1, least=1, help="samples of each task")
    skip: int = option(0, least=0, help="samples of each task to pass over first, to see others")
    titles: bool = option(True, help="write each item's title behind its identifier")


def card_path(workspace: Workspace) -> Path:
    return workspace.corpus / "card.json"


def training_files(workspace: Workspace) -> dict[str, tuple[Path, str]]:
    """The rows that can be looked at by name, each with the command that makes them."""
    return {
        "align": (workspace.align, "corpus align"),
        "reason": (workspace.reason, "corpus reason"),
        "rejected": (rejected_path(workspace), "corpus reason"),
    }


def counted_files(workspace: Workspace) -> list[tuple[Path, str]]:
    """The training data that is there; `GreamError` without any."""
    found = [training_files(workspace)[name] for name in ("align", "reason")]
    found = [(path, command) for path, command in found if path.exists()]
    if not found:
        raise GreamError(f"{workspace.corpus} has no training data: run `gream corpus align` first")
    return found


def run_card(workspace: Workspace, settings: CardSettings) -> None:
    from transformers import AutoTokenizer

    from gream_ext.extras.inspect.card import fault_counts, make_card

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
    from gream_ext.extras.inspect.inspect import rl_rows, samples, show, title_writer

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


CARD = Stage(
    name="corpus card",
    settings=CardSettings,
    run=run_card,
    reads=lambda workspace, settings: [path for path, _ in counted_files(workspace)],
    writes=lambda workspace, settings: [card_path(workspace)],
)
INSPECT = Stage(name="corpus inspect", settings=InspectSettings, run=run_inspect)
