"""Command ``run``: the stages of a pipeline file one after another.

    - prepare: {source: movielens, path: .cache/recbole-1.2.1-py3-none-any.whl}
    - embed
    - index build: {codebook_size: 32}

The file is checked as a whole before anything runs. A step that is up to date is skipped, so a second run of the same
file does only what is missing, and one that was interrupted goes on from the last finished step.
"""

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gream_ext.errors import GreamError
from gream_ext.pipeline import settings as settings_of
from gream_ext.pipeline.execute import duration, holding
from gream_ext.pipeline.record import is_command, run_stage, slug, why_run
from gream_ext.pipeline.table import find
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class RunSettings:
    pipeline: Path = dataclasses.field(
        metadata={"help": "The pipeline file: a YAML list of steps, - STAGE: {setting: value}.", "positional": True}
    )
    dry_run: bool = option(False, help="Only list the steps and say which would run.")
    force: bool = option(False, help="Run every step, also what is up to date.")
    seed: int | None = option(None, help="Seed of every step that has one and is not given another in the file.")
    until: str | None = option(None, help="Stop after this step, e.g. 'evaluate sft direct test'.")


@dataclass(frozen=True)
class Step:
    """One step of a pipeline: a stage with its settings."""

    stage: Stage
    settings: Any

    @property
    def label(self) -> str:
        return self.stage.label_of(self.settings)


def read_pipeline(path: Path, seed: int | None = None) -> list[Step]:
    """The steps of a pipeline file, with ``seed`` where a step has a seed and the file does not say which.

    Raises:
        GreamError: naming the file, the step and the key, for anything in it that could not run.
    """
    try:
        steps = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GreamError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise GreamError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(steps, list) or not steps:
        raise GreamError(f"{path} must be a list of steps, - STAGE: {{setting: value}}")
    read = [_read_step(step, seed, f"{path}: step {number}") for number, step in enumerate(steps, start=1)]
    seen: dict[str, int] = {}
    for number, step in enumerate(read, start=1):
        earlier = seen.setdefault(slug(step.label), number)
        if earlier != number:
            raise GreamError(f"{path}: step {number} ({step.label}) is there already as step {earlier}: remove one")
    return read


def _read_step(step: Any, seed: int | None, where: str) -> Step:
    name, values = next(iter(step.items())) if isinstance(step, dict) and len(step) == 1 else (step, None)
    if not isinstance(name, str):
        raise GreamError(f"{where} must be one stage with its settings, - STAGE: {{setting: value}}, not {step!r}")
    if name == "run":
        raise GreamError(f"{where}: a pipeline cannot run a pipeline")
    try:
        stage = find(name).load()
    except GreamError as error:
        raise GreamError(f"{where}: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise GreamError(f"{where} ({name}): the settings must be a mapping, not {values!r}")
    seeded = seed is not None and any(field.name == "seed" for field in dataclasses.fields(stage.settings))
    values = {**({"seed": seed} if seeded else {}), **(values or {})}
    return Step(stage, settings_of.build(stage.settings, values, f"{where} ({name})"))


def steps_until(steps: list[Step], label: str | None) -> list[Step]:
    """The steps up to the one with this label; all of them for None."""
    labels = [step.label for step in steps]
    if label is None:
        return steps
    if label not in labels:
        raise GreamError(f"--until {label!r} is no step of this file; they are: {', '.join(labels)}")
    return steps[: labels.index(label) + 1]


def run(workspace: Workspace, settings: RunSettings) -> None:
    """Run the steps that are not up to date.

    Raises:
        GreamError: for a mistake in the file (before anything runs), or from the step that failed.
    """
    steps = steps_until(read_pipeline(settings.pipeline, settings.seed), settings.until)
    if settings.dry_run:
        print(plan(workspace, steps, settings.force))
        return
    start = time.monotonic()
    with holding(workspace):
        for number, step in enumerate(steps, start=1):
            heading = f"[{number}/{len(steps)}] {step.label}"
            print(f"== {heading}", flush=True)
            if is_command(step.stage, workspace, step.settings):
                step.stage.run(workspace, step.settings)
                continue
            outcome = run_stage(step.stage, workspace, step.settings, settings.force)
            sys.stderr.flush()
            verb = "done in" if outcome.ran else "up to date; it took"
            print(f"   {verb} {duration(outcome.seconds)}", flush=True)
            if step.stage.show and not outcome.ran:
                step.stage.show(workspace, step.settings)
    print(f"== All {len(steps)} steps are done ({duration(time.monotonic() - start)} now); files: {workspace.root}")


def plan(workspace: Workspace, steps: list[Step], force: bool) -> str:
    """What would run and why, a line a step. A step that reads what an earlier one will write is said to run too."""
    written: dict[Path, str] = {}
    lines = []
    for number, step in enumerate(steps, start=1):
        reads = step.stage.reads(workspace, step.settings)
        makers = [
            maker
            for path in reads
            for made, maker in written.items()
            if path == made or path in made.parents or made in path.parents
        ]
        why = "--force" if force else f"after {makers[0]}" if makers else None
        why = why or why_run(step.stage, workspace, step.settings)
        if why:
            written.update(dict.fromkeys(step.stage.writes(workspace, step.settings), step.label))
        lines.append(f"{number:>3}  {f'run         {step.label} ({why})' if why else f'up to date  {step.label}'}")
    return "\n".join(lines)


STAGE = Stage(name="run", settings=RunSettings, run=run)
