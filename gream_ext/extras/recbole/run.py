"""Baselines by RecBole, one job after the other: a program in an environment of its own (scripts/setup_recbole_env.sh).

What it recommends comes back as items, and is evaluated, saved and reported like everything else.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.baselines import popular_items, write_baseline
from gream_ext.evaluation.files import files, stem
from gream_ext.evaluation.shards import identity
from gream_ext.extras.recbole.job import Job, make_job, read_result, write_job
from gream_ext.extras.recbole.stages import RecBoleSettings
from gream_ext.items.index import ItemIndex
from gream_ext.pipeline.launch import Progress, launch
from gream_ext.workspace import ITEMS, Workspace, read_json, read_table

EPOCH = re.compile(r"^(?P<name>\S+ \d+/\d+) (?:epoch|pretraining) (?P<done>\d+)/(?P<total>\d+)(?P<note>.*)")


def run(workspace: Workspace, settings: RecBoleSettings) -> None:
    """Train each model that an earlier, interrupted run has not trained, and write its evaluations."""
    python = Path(settings.python).absolute()  # not resolved: the link is what makes it that environment's
    if not python.exists():
        raise GreamError(f"--python {settings.python} is not there: scripts/setup_recbole_env.sh makes it")
    item_ids = ItemIndex.load(workspace.item_index).item_ids
    training = training_histories(workspace)
    cases = {"valid": evaluation_cases(workspace, "valid"), "test": evaluation_cases(workspace, settings.split)}
    own = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "categories").rows())
    categories = {item: own.get(item) or [] for item in item_ids}
    popular = popular_items(training, item_ids)
    for model in settings.models:
        job = make_job(
            model, settings.overrides, settings.trials, window=settings.window,
            recommendations=settings.recommendations, seed=settings.seed, gpu=settings.gpu,
        )  # fmt: skip
        stems = [stem(workspace, model, "direct", settings.split, exclude_seen) for exclude_seen in (False, True)]
        what = {**asdict(job), "cutoffs": list(settings.cutoffs)}
        key = identity(what, [workspace.interactions, workspace.items, workspace.item_index])
        if all(finished(path, key) for path in stems):
            print(f"baselines recbole: {model} is there")
            continue
        tables, result = train(workspace, python, job, training, cases, categories)
        for path, rows, seen in zip(stems, tables, (False, True), strict=True):
            figures = write_baseline(
                path, rows, cases["test"], seen, settings.cutoffs, item_ids, popular, training=result, key=key
            )
            print(f"baselines recbole: {model}{', excluding seen' if seen else ''}: {figures}")


def train(
    workspace: Workspace,
    python: Path,
    job: Job,
    training: Mapping[str, Sequence[str]],
    cases: Mapping[str, Sequence[Case]],
    categories: Mapping[str, Sequence[str]],
) -> tuple[list[pl.DataFrame], dict[str, Any]]:
    """Run RecBole on a job; what `gream_ext.extras.recbole.job.read_result` gives."""
    quiet = {"PYTHONWARNINGS": "ignore"}  # what RecBole does not know of newer versions of pandas and torch
    with tempfile.TemporaryDirectory(prefix="gream-recbole-") as made:
        folder = Path(made)
        write_job(folder, job, training, cases, categories)
        words = [str(python), "-m", "gream_ext.extras.recbole.training", str(folder)]
        launch(words, name=f"recbole-{job.model}", workspace=workspace, environment=quiet, progress=read_progress)
        return read_result(folder, cases["test"], list(categories))


def finished(path: Path, key: str) -> bool:
    """Whether an earlier run left the figures of the same job here."""
    table, about = files(path)
    try:
        return table.exists() and read_json(about, "baselines recbole").get("key") == key
    except GreamError:
        return False


def read_progress(line: str) -> Progress | None:
    """An epoch, as `gream_ext.extras.recbole.training` prints it.

    >>> found = read_progress("SASRec 1/2 epoch 3/40 ndcg@10 0.0512")
    >>> found.done, found.total, found.note
    (3, 40, 'SASRec 1/2 ndcg@10 0.0512')
    """
    found = EPOCH.match(line)
    return Progress(int(found["done"]), int(found["total"]), found["name"] + found["note"]) if found else None
