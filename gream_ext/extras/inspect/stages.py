"""The stages ``corpus card`` and ``corpus inspect``: what is in the training data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.corpus.files import rejected_path
from gream_ext.errors import GreamError
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace


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


CARD = Stage(
    name="corpus card",
    settings=CardSettings,
    run=Later("gream_ext.extras.inspect.commands:run_card"),
    reads=lambda workspace, settings: [path for path, _ in counted_files(workspace)],
    writes=lambda workspace, settings: [card_path(workspace)],
)
INSPECT = Stage(
    name="corpus inspect", settings=InspectSettings, run=Later("gream_ext.extras.inspect.commands:run_inspect")
)
