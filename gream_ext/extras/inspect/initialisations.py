"""Stage ``base-model compare``: which initialisation of the identifier tokens learns the alignment data soonest.

Every initialisation gets the same model, the same training rows in the same order and the same held-out rows; only
the new tokens' first values differ, and, unless asked otherwise, all of them have the same length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

RESULT = "base_model_compare.json"


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


def run(workspace: Workspace, settings: CompareSettings) -> None:
    from gream_ext.extras.inspect.trials import compare

    compare(workspace, settings, workspace.path(RESULT))


def _reads(workspace: Workspace, settings: CompareSettings) -> Sequence[Path]:
    return workspace.align, workspace.items, workspace.item_index


def _writes(workspace: Workspace, settings: CompareSettings) -> Sequence[Path]:
    return (workspace.path(RESULT),)


STAGE = Stage(name="base-model compare", settings=CompareSettings, run=run, reads=_reads, writes=_writes)
