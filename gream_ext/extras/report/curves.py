"""The curves of a run: what the frameworks and our parts in them logged while they trained."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.workspace import Workspace

LEVEL_SHARE = re.compile(r"gream/levels/(\d+)$")
"""Our metric in Verl's log: the share of rollouts with so many matched levels."""
UNKNOWN = math.nan
"""In place of a figure that was not logged."""


@dataclass(frozen=True)
class SftStep:
    """One optimizer step of supervised training. ``phase`` is one of `curriculum.PHASES`, or ``unplanned``."""

    step: int
    epoch: int
    kind: str
    phase: str
    planned: float
    loss: float
    reason_share: float


@dataclass(frozen=True)
class RlStep:
    """One step of reinforcement learning."""

    step: int
    reward: float = UNKNOWN
    """Mean over all rollouts of the step, before the group filter where ours was at work."""
    matched_levels: tuple[float, ...] = ()
    """Share of rollouts with 0, 1, … matched levels; empty where it was not logged."""
    response_length: float = UNKNOWN
    kept_groups: float = UNKNOWN
    """Share of groups that the filter kept."""
    well_formed: float = UNKNOWN
    validation_reward: float = UNKNOWN


def sft_steps(workspace: Workspace, model: str = "sft") -> list[SftStep]:
    """The curriculum's log beside the model, or where it was off LLaMA-Factory's own; empty before training."""
    steps = []
    folder = workspace.model(model)
    for row in read_log(folder) or _plain_log(folder / "trainer_log.jsonl"):
        rows = row.get("align_rows", 0) + row.get("reason_rows", 0)
        share = row.get("reason_rows", 0) / rows if rows else float(row["kind"] == "reason")
        planned, loss = (_number(row.get(name)) for name in ("planned", "loss"))
        steps.append(
            SftStep(row["step"], row["epoch"], row["kind"], row.get("phase", "curriculum"), planned, loss, share)
        )
    return steps


def _plain_log(path: Path) -> list[dict[str, Any]]:
    """LLaMA-Factory's log as one of mixed steps, of which nothing was planned."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            known = {"step": int(row["current_steps"]), "loss": float(row["loss"])}
            rows.append({**known, "epoch": math.ceil(float(row["epoch"])) or 1, "kind": "mixed", "phase": "unplanned"})
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def smooth(values: Sequence[float] | np.ndarray, span: int) -> np.ndarray:
    """Mean over the ``span`` values around each one, those that are NaN left out; NaN where all are.

    >>> smooth([0.0, math.nan, 3.0, 6.0], 3).tolist()
    [0.0, 1.5, 4.5, 4.5]
    """
    given = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(given)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, given, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    start = np.arange(len(given)) - span // 2
    start, end = np.clip(start, 0, None), np.clip(start + span, None, len(given))
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return np.asarray((sums[end] - sums[start]) / (counts[end] - counts[start]))


class Mixture(NamedTuple):
    """Planned and real share of reasoning over the steps, both NaN outside their phase: float64 [points]."""

    steps: np.ndarray
    planned: np.ndarray
    real: np.ndarray


def mixture(steps: Sequence[SftStep], span: int | None = None) -> Mixture:
    """What the curriculum planned and what really happened, in the same unit.

    In the curriculum's epochs both are the chance that a reasoning step follows an alignment step, in the uniform
    epoch the share of reasoning data. Leftovers, appended at an epoch's end, belong to neither.
    """
    columns = []
    for (_, phase), same in groupby(steps, lambda step: (step.epoch, step.phase)):
        stretch = list(same)
        xs, planned = [float(step.step) for step in stretch], [step.planned for step in stretch]
        shares = [step.reason_share for step in stretch]
        if phase == "curriculum":
            # An insertion belongs to the alignment step before it.
            follows = [following.kind == "reason" for following in stretch[1:]] + [False]
            kinds = [step.kind for step in stretch]
            shares = [float(one) if kind == "align" else UNKNOWN for one, kind in zip(follows, kinds, strict=True)]
        real = smooth(shares, span or max(9, len(stretch) // 7))
        if phase == "leftover":
            planned, real = [UNKNOWN] * len(stretch), np.full(len(stretch), UNKNOWN)
        # A break before each stretch, so that no line runs from one into the next.
        columns.append([[xs[0], *xs], [UNKNOWN, *planned], [UNKNOWN, *real]])
    joined = [np.concatenate(parts) for parts in zip(*columns, strict=True)] if columns else [np.empty(0)] * 3
    return Mixture(*joined)


def rl_steps(workspace: Workspace) -> list[RlStep]:
    """What Verl's file logger wrote, a line a step; one that is not finished is left out.

    A step that was logged twice (validation apart, or after a resume) is one.
    """
    path, found = workspace.path("rl", "metrics.jsonl"), dict[int, dict[str, Any]]()
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            found.setdefault(int(row["step"]), {}).update(row["data"])
        except (ValueError, KeyError, TypeError):
            continue
    return [_rl_step(step, data) for step, data in sorted(found.items())]


def _rl_step(step: int, data: dict[str, Any]) -> RlStep:
    levels = {int(found.group(1)): float(data[key]) for key in data if (found := LEVEL_SHARE.search(key))}
    return RlStep(
        step,
        _first(data, "gream/rollouts/reward", "critic/score/mean", "critic/rewards/mean"),
        tuple(levels.get(level, 0.0) for level in range(max(levels, default=-1) + 1)),
        _first(data, "response_length/mean"),
        _first(data, "gream/groups/kept_rate"),
        _first(data, "gream/rollouts/well_formed"),
        _first(data, *(key for key in data if key.startswith("val-") and "/reward/mean@" in key)),
    )


def _first(data: dict[str, Any], *names: str) -> float:
    return next((value for name in names if math.isfinite(value := _number(data.get(name)))), UNKNOWN)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else UNKNOWN
