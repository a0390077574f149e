"""Command ``curriculum plan``: the order of the training batches, drawn or written out, without training.

It reads the recipe as `gream sft` would train it. Without numbers of rows it takes those of the workspace's corpus.
``--export DIR`` writes the rows of all epochs in that order into one file, which stock LLaMA-Factory trains to the same
batches and losses without our hook: ``disable_shuffling: true``, ``num_train_epochs: 1``. Such a file fits one product
of micro-batch, processes and accumulation steps, and no packing.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gream_ext.errors import GreamError
from gream_ext.stage import Later, Stage, option

CHOSEN = ("batch_rows", "epochs", "curriculum_epochs", "gamma", "uniform_unit", "seed")
"""Settings that take the place of the recipe's, where they are given."""


@dataclass(frozen=True)
class PlanSettings:
    align_rows: int | None = option(None, least=0, help="Alignment rows of an epoch; by default those of the corpus.")
    reason_rows: int | None = option(None, least=0, help="Reasoning rows of an epoch; by default those of the corpus.")
    recipe: str = option("sft_curriculum", help="A shipped recipe, or the path of a YAML file for LLaMA-Factory.")
    processes: int = option(1, least=1, help="Processes that train, over all nodes: a batch has their rows together.")
    overrides: dict[str, Any] = option({}, help="Keys of the recipe to change, as in `gream sft`.")
    batch_rows: int | None = option(
        None, least=1, help="Rows of a batch; by default those of the recipe on the processes."
    )
    epochs: int | None = option(None, least=1, help="Epochs; by default num_train_epochs of the recipe.")
    curriculum_epochs: int | None = option(None, least=0, help="By default gream_curriculum_epochs of the recipe.")
    gamma: float | None = option(None, least=0, help="By default gream_gamma of the recipe.")
    uniform_unit: Literal["batch", "sample"] | None = option(None, help="By default gream_uniform_unit of the recipe.")
    seed: int | None = option(None, help="Seed of the order; by default the recipe's.")
    width: int = option(72, least=10, help="Columns of the drawing.")
    json: Path | None = option(None, help="Also write the order to this JSON file.")
    export: Path | None = option(
        None, help="Also write all rows in this order into this folder, for stock LLaMA-Factory."
    )

    def __post_init__(self) -> None:
        if (self.align_rows is None) != (self.reason_rows is None):
            raise GreamError("curriculum plan: give both align_rows and reason_rows, or neither to use the corpus")
        if self.json and self.json.is_dir():
            raise GreamError(f"curriculum plan: json names a file to write, and {self.json} is a folder")
        if self.export and self.align_rows is not None:
            raise GreamError(
                "curriculum plan: export writes the rows of the corpus: leave align_rows and reason_rows out"
            )


STAGE = Stage(name="curriculum plan", settings=PlanSettings, run=Later("gream_ext.plugins.llamafactory.commands:run"))
