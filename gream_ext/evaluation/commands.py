"""What ``evaluate``, ``baselines``, ``baselines bring`` and ``compare`` do."""

import os
from dataclasses import fields
from typing import Any

from gream_ext.base_model.model_format import read_prompts
from gream_ext.errors import GreamError
from gream_ext.evaluation.answers import Decoding, Machine
from gream_ext.evaluation.baselines import bring, measure_simple
from gream_ext.evaluation.compare import comparison_table, evaluation
from gream_ext.evaluation.evaluate import evaluate
from gream_ext.evaluation.files import model_folder
from gream_ext.evaluation.protocol import summary_line
from gream_ext.evaluation.stages import (
    BaselinesSettings,
    BringSettings,
    CompareSettings,
    EvaluateSettings,
    evaluate_label,
    evaluated,
)
from gream_ext.inference.device import check_device
from gream_ext.workspace import Workspace


def run_evaluate(workspace: Workspace, settings: EvaluateSettings) -> None:
    """Ask the model in the way that it was trained with, unless the settings say otherwise."""
    if settings.server is None:
        check_device(settings.device)
    model = model_folder(workspace, settings.model)
    if not (model / "config.json").exists():
        raise GreamError(f"model {settings.model!r}: {model} is no model folder; train it or name another")
    # SGLang's samples depend on the batch that they are drawn in.
    changed: dict[str, Any] = {"seed": None} if settings.engine == "sglang" else {}
    system_prompt = None if settings.system_prompt == "auto" else settings.system_prompt
    prompts = read_prompts(model, settings.window, system_prompt)
    how = _part(Decoding, settings, prompts=prompts, **changed)
    threads = settings.threads
    if threads is None and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, (os.cpu_count() or 1) // settings.processes)
    machine = _part(Machine, settings, threads=threads)
    path = evaluated(workspace, settings)
    figures = evaluate(workspace, model, path, how, machine, settings.cutoffs, settings.limit)
    names = ("recall", "ndcg") if settings.mode == "direct" else ("pass", "recall", "ndcg") if how.rank else ("pass",)
    print(f"{evaluate_label(settings)}: {summary_line(figures, names, settings.cutoffs)}")


def _part(kind: type, settings: EvaluateSettings, **changed: Any) -> Any:
    """A dataclass of the settings' fields that it has, some of them changed."""
    return kind(**{field.name: changed.get(field.name, getattr(settings, field.name, None)) for field in fields(kind)})


def run_baselines(workspace: Workspace, settings: BaselinesSettings) -> None:
    measure_simple(workspace, settings.split, settings.cutoffs, settings.recommendations)


def run_bring(workspace: Workspace, settings: BringSettings) -> None:
    bring(workspace, settings.name, Workspace(settings.source), settings.model, settings.split)


def run_compare(workspace: Workspace, settings: CompareSettings) -> None:
    there = Workspace(settings.other) if settings.other else workspace
    kind = settings.mode, settings.split, settings.exclude_seen
    first, second = evaluation(workspace, settings.first, *kind), evaluation(there, settings.second, *kind)
    names = settings.first, settings.second
    print(comparison_table(first, second, names, settings.figures, settings.mode))
