"""The stages ``corpus card``, ``corpus inspect`` and ``base-model compare``."""

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


@dataclass(frozen=True)
class CompareSettings:
    base_model: str = option("smollm2", help="folder of a Hugging Face causal LM, a .gguf file, or smollm2")
    initialisations: tuple[str, ...] = option(
        ("random", "mean", "semantic"), help="what to compare", choices=("random", "mean", "semantic")
    )
    seeds: tuple[int, ...] = option((0, 1, 2), help="each draws the new rows and the order of the training rows")
    equal_length: bool = option(True, help="scale every new row to the median length of the old ones; no: as they come")
    steps: int = option(100, least=1, help="optimizer steps")
    batch_size: int = option(4, least=1, help="rows of a step")
    held_out: int = option(64, least=1, help="rows that the loss is measured on and that are never trained on")
    longest: int = option(96, least=1, help="rows of more tokens are passed over")
    learning_rate: float = option(1e-4, above=0, help="of AdamW, constant")
    dtype: str = option("auto", help="of the arithmetic; weights stay float32", choices=("auto", "float32", "bfloat16"))


COMPARISON = "base_model_compare.json"


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
    run=Later("gream_ext.extras.inspect.card:run"),
    reads=lambda workspace, settings: [path for path, _ in counted_files(workspace)],
    writes=lambda workspace, settings: [card_path(workspace)],
)
INSPECT = Stage(name="corpus inspect", settings=InspectSettings, run=Later("gream_ext.extras.inspect.inspect:run"))
COMPARE = Stage(
    name="base-model compare",
    settings=CompareSettings,
    run=Later("gream_ext.extras.inspect.compare:compare"),
    reads=lambda workspace, settings: [workspace.align, workspace.items, workspace.item_index],
    writes=lambda workspace, settings: [workspace.path(COMPARISON)],
)
