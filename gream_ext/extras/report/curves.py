"""The curves of a run: what the frameworks and our parts in them logged while they trained."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.workspace import Workspace

LEVEL_SHARE = re.compile(r"gream/levels/(\d+)$")
"""Our metric in Verl's log: the share of rollouts with so many matched levels."""


@dataclass(frozen=True)
class SftStep:
    """One optimizer step of supervised training. ``phase`` is one of `curriculum.PHASES`."""

    step: int
    epoch: int
    kind: str
    phase: str
    planned: float | None
    loss: float | None
    reason_share: float


@dataclass(frozen=True)
class RlStep:
    """One step of reinforcement learning; None where Verl did not log the figure."""

    step: int
    reward: float | None
    """Mean over all rollouts of the step, before the group filter where ours was at work."""
    matched_levels: tuple[float, ...]
    """Share of rollouts with 0, 1, … matched levels; empty where it was not logged."""
    response_length: float | None
    kl: float | None
    kept_groups: float | None
    """Share of groups that the filter kept."""
    well_formed: float | None
    validation_reward: float | None


@dataclass(frozen=True)
class Mixture:
    """Planned and real share of reasoning over the steps, both null outside their phase."""

    steps: list[int] = field(default_factory=list)
    planned: list[float | None] = field(default_factory=list)
    real: list[float | None] = field(default_factory=list)


def sft_steps(workspace: Workspace, model: str = "sft") -> list[SftStep]:
    """The curriculum's log beside the model, or where it was off LLaMA-Factory's own; empty before training."""
    steps = []
    logged = read_log(workspace.model(model))
    for row in logged or _plain_log(workspace.model(model) / "trainer_log.jsonl"):
        rows = row.get("align_rows", 0) + row.get("reason_rows", 0)
        share = row.get("reason_rows", 0) / rows if rows else float(row["kind"] == "reason")
        steps.append(
            SftStep(
                row["step"],
                row["epoch"],
                row["kind"],
                row.get("phase", "curriculum"),
                row.get("planned"),
                row.get("loss"),
                share,
            )
        )
    return steps


def _plain_log(path: Path) -> list[dict[str, Any]]:
    """LLaMA-Factory's log as one of mixed steps, of which nothing was planned."""
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
            epoch = math.ceil(float(row["epoch"])) or 1
            rows.append({"step": int(row["current_steps"]), "loss": float(row["loss"]), "epoch": epoch,
                         "kind": "mixed", "phase": "unplanned"})  # fmt: skip
        except (ValueError, KeyError, TypeError):
            continue
    return rows


def smooth(values: Sequence[float | None], span: int) -> list[float | None]:
    """Mean over the ``span`` values around each one; None where there is none.

    >>> smooth([0.0, None, 3.0, 6.0], 3)
    [0.0, 1.5, 4.5, 4.5]
    """
    sums, counts = [0.0], [0]
    for value in values:
        sums.append(sums[-1] + (0.0 if value is None else value))
        counts.append(counts[-1] + (value is not None))
    before = span // 2
    smoothed: list[float | None] = []
    for place in range(len(values)):
        start, end = max(0, place - before), min(len(values), place - before + span)
        count = counts[end] - counts[start]
        smoothed.append((sums[end] - sums[start]) / count if count else None)
    return smoothed


def mixture(steps: Sequence[SftStep], span: int | None = None) -> Mixture:
    """What the curriculum planned and what really happened, in the same unit.

    In the curriculum's epochs both are the chance that a reasoning step follows an alignment step, in the uniform
    epoch the share of reasoning data. Leftovers, appended at an epoch's end, belong to neither.
    """
    found = Mixture()
    stretches: list[list[SftStep]] = []
    for step in steps:
        if not stretches or (step.epoch, step.phase) != (stretches[-1][-1].epoch, stretches[-1][-1].phase):
            stretches.append([])
        stretches[-1].append(step)
    for stretch in stretches:
        width = span or max(9, len(stretch) // 7)
        if stretch[0].phase == "curriculum":
            # An insertion belongs to the alignment step before it.
            follows = [following.kind == "reason" for following in stretch[1:]] + [False]
            chance = [
                float(inserted) if step.kind == "align" else None
                for step, inserted in zip(stretch, follows, strict=True)
            ]
            real, planned = smooth(chance, width), [step.planned for step in stretch]
        elif stretch[0].phase == "leftover":
            real, planned = [None] * len(stretch), [None] * len(stretch)
        else:
            real = smooth([step.reason_share for step in stretch], width)
            planned = [step.planned for step in stretch]
        # A break, so that no line runs from one stretch into the next.
        found.steps.extend([stretch[0].step, *(step.step for step in stretch)])
        found.planned.extend([None, *planned])
        found.real.extend([None, *real])
    return found


def rl_steps(workspace: Workspace) -> list[RlStep]:
    """What Verl's file logger wrote, one line a step; a line that is not finished is left out."""
    return [_rl_step(step, data) for step, data in sorted(_logged(workspace.path("rl", "metrics.jsonl")).items())]


def _logged(path: Path) -> dict[int, dict[str, Any]]:
    """Metrics by step; a step that was logged twice (validation apart, or after a resume) is one."""
    found: dict[int, dict[str, Any]] = {}
    if not path.exists():
        return found
    for line in path.read_bytes().splitlines():
        try:
            row = json.loads(line)
            found.setdefault(int(row["step"]), {}).update(row["data"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _rl_step(step: int, data: dict[str, Any]) -> RlStep:
    levels = {int(found.group(1)): float(data[key]) for key in data if (found := LEVEL_SHARE.search(key))}
    return RlStep(
        step=step,
        reward=_first(data, "gream/rollouts/reward", "critic/score/mean", "critic/rewards/mean"),
        matched_levels=tuple(levels.get(level, 0.0) for level in range(max(levels) + 1)) if levels else (),
        response_length=_first(data, "response_length/mean"),
        kl=_first(data, "actor/kl_loss", "actor/ppo_kl"),
        kept_groups=_first(data, "gream/groups/kept_rate"),
        well_formed=_first(data, "gream/rollouts/well_formed"),
        validation_reward=_first(data, *(key for key in data if key.startswith("val-") and "/reward/mean@" in key)),
    )


def _first(data: dict[str, Any], *names: str) -> float | None:
    for name in names:
        value = data.get(name)
        if isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    return None
