"""Command ``curriculum plan``: the order of the training batches, drawn or written out, without training.

It reads the recipe as `gream sft` would train it. Without numbers of rows it takes those of the workspace's corpus.
``--export DIR`` writes the rows of all epochs in that order into one file, which stock LLaMA-Factory trains to the same
batches and losses without our hook: ``disable_shuffling: true``, ``num_train_epochs: 1``. Such a file fits one product
of micro-batch, processes and accumulation steps, and no packing.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gream_ext.curriculum import (
    ALIGN,
    CURRICULUM,
    FILLED,
    KINDS,
    LEFTOVER,
    MIXED,
    REASON,
    UNIFORM,
    Curriculum,
    CurriculumSettings,
    Plan,
    expected_insertions,
)
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.export import corpus_tags, export
from gream_ext.plugins.llamafactory.replay import replayed
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, write_json

CHOSEN = ("batch_rows", "epochs", "curriculum_epochs", "gamma", "uniform_unit", "seed")
"""Settings that take the place of the recipe's, where they are given."""
BARS = " ▁▂▃▄▅▆▇█"


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


def run(workspace: Workspace, settings: PlanSettings) -> None:
    from gream_ext.pipeline.shipped import find_recipe
    from gream_ext.plugins.llamafactory.recipe import read_order

    recipe = find_recipe(settings.recipe)
    order = read_order(recipe, settings.overrides, settings.processes)
    chosen = {name: getattr(settings, name) for name in CHOSEN if getattr(settings, name) is not None}
    if settings.batch_rows is None:
        print(f"{recipe.stem}: {order.told}", end="\n\n")
    if settings.align_rows is None or settings.reason_rows is None:
        kinds, epochs = corpus_tags(workspace, order.datasets)
    else:
        kinds = np.repeat([ALIGN, REASON], [settings.align_rows, settings.reason_rows])
        epochs = np.zeros(len(kinds), np.int32)
    asked = replace(order.settings, **chosen)
    if order.align_share < 1:
        epochs = replayed(kinds, epochs, order.align_share, asked.seed)
    curriculum = Curriculum(kinds, epochs, asked)
    for epoch, plan in enumerate(curriculum.epoch_plans, start=1):
        print(draw(plan, epoch, curriculum.settings, settings.width), end="\n\n")
    filled = int((curriculum.plan.phase == FILLED).sum())
    print(f"{len(curriculum.plan):,} batches in all" + (f", {filled} of them to even out the epochs" if filled else ""))
    if settings.json:
        write_json(settings.json, as_json(curriculum))
        print(f"wrote {settings.json}")
    if settings.export:
        export(workspace, curriculum, settings.export, order.datasets)
        print(f"wrote {settings.export}: train it with dataset: ordered, disable_shuffling: true, num_train_epochs: 1")


def draw(plan: Plan, epoch: int, settings: CurriculumSettings, width: int) -> str:
    """Three lines: the batches of each kind, and the share of reasoning data along the epoch, planned and drawn."""
    about = summary(plan, settings.gamma)
    batches = " + ".join(f"{count:,} {kind}" for kind, count in about["batches"].items())
    if epoch <= settings.curriculum_epochs:
        inserted = f"{about['inserted']:,} inserted ({about['expected_insertions']:,.1f} expected)"
        order = f"{inserted}, {about['left_over']:,} at the end"
    else:
        order = "in a random order"
    lines = [f"Epoch {epoch} of {settings.epochs}: {batches} batches, {order}"]
    cells = np.array_split(np.arange(len(plan)), min(width, len(plan)))
    for name, share in {"planned": _planned_share, "drawn": _drawn_share}.items():
        lines.append(f"  {name:8}│{''.join(BARS[round(share(plan, cell) * (len(BARS) - 1))] for cell in cells)}│")
    return "\n".join(lines)


def _planned_share(plan: Plan, cell: np.ndarray) -> float:
    """Share of reasoning data that these batches are expected to hold: p more for each alignment batch."""
    phase, planned = plan.phase[cell], plan.planned[cell]
    leftover = int((phase == LEFTOVER).sum())
    uniform = planned[phase == UNIFORM]
    inserting = planned[(phase == CURRICULUM) & (plan.kind[cell] == ALIGN)]
    reason = leftover + uniform.sum() + inserting.sum()
    return float(reason / max(1e-9, leftover + len(uniform) + len(inserting) + inserting.sum()))


def _drawn_share(plan: Plan, cell: np.ndarray) -> float:
    return float(np.where(plan.kind[cell] == MIXED, plan.planned[cell], plan.kind[cell] == REASON).mean())


def summary(plan: Plan, gamma: float) -> dict[str, Any]:
    """What an epoch holds, in numbers."""
    counts = np.bincount(plan.kind, minlength=len(KINDS)).tolist()
    about: dict[str, Any] = {"batches": {kind: n for kind, n in zip(KINDS, counts, strict=True) if n}}
    if UNIFORM not in plan.phase:
        about["inserted"] = int(((plan.kind == REASON) & (plan.phase == CURRICULUM)).sum())
        about["expected_insertions"] = expected_insertions(counts[ALIGN], counts[REASON], gamma)
        about["left_over"] = int((plan.phase == LEFTOVER).sum())
    return about


def as_json(curriculum: Curriculum) -> dict[str, Any]:
    """The plan for other programs; ``order`` has one letter a batch: align, reason or mixed."""
    letters = np.array([kind[0] for kind in KINDS])
    return {
        "settings": asdict(curriculum.settings),
        "epochs": [
            {"epoch": epoch, **summary(plan, curriculum.settings.gamma), "order": "".join(letters[plan.kind])}
            for epoch, plan in enumerate(curriculum.epoch_plans, start=1)
        ],
        "batches": len(curriculum.plan),
        "filled": int((curriculum.plan.phase == FILLED).sum()),
    }


STAGE = Stage(name="curriculum plan", settings=PlanSettings, run=run)
