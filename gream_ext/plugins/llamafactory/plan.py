"""The order of the training batches as text and as JSON."""

from dataclasses import asdict
from typing import Any

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
from gream_ext.plugins.llamafactory.keys import GENERAL
from gream_ext.plugins.llamafactory.shares import general_rows

BARS = " ▁▂▃▄▅▆▇█"


def without_files(align_rows: int, reason_rows: int, general_share: float, run_epochs: int) -> tuple[np.ndarray, ...]:
    """Kinds and epochs of so many rows, which belong to every epoch, with as many general ones as their share takes."""
    kinds = np.repeat([ALIGN, REASON], [align_rows, reason_rows])
    general = sum(general_rows(kinds, np.zeros(len(kinds)), general_share, run_epochs))
    kinds = np.append(kinds, np.full(general, GENERAL))
    return kinds, np.zeros(len(kinds), np.int32)


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
    for name, share in {"planned": planned_share, "drawn": drawn_share}.items():
        lines.append(f"  {name:8}│{''.join(BARS[round(share(plan, cell) * (len(BARS) - 1))] for cell in cells)}│")
    return "\n".join(lines)


def planned_share(plan: Plan, cell: np.ndarray) -> float:
    """Share of reasoning data that these batches are expected to hold: p more for each alignment batch."""
    phase, planned = plan.phase[cell], plan.planned[cell]
    leftover = int((phase == LEFTOVER).sum())
    uniform = planned[phase == UNIFORM]
    inserting = planned[(phase == CURRICULUM) & (plan.kind[cell] == ALIGN)]
    reason = leftover + uniform.sum() + inserting.sum()
    return float(reason / max(1e-9, leftover + len(uniform) + len(inserting) + inserting.sum()))


def drawn_share(plan: Plan, cell: np.ndarray) -> float:
    """Share of reasoning data that these batches hold."""
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
