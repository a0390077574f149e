"""Stage ``baselines recbole``: what the field compares with, trained by RecBole on our splits, measured by us.

RecBole runs as a program in an environment of its own (scripts/setup_recbole_env.sh); what it recommends comes back as
items, and is evaluated, saved and reported like everything else.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gream_ext.errors import GreamError
from gream_ext.evaluation.baselines import check_cutoffs, popular_items
from gream_ext.pipeline.fingerprint import digest, fingerprint
from gream_ext.pipeline.launch import Progress, launch
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table

if TYPE_CHECKING:
    import polars as pl

    from gream_ext.data.histories import Case
    from gream_ext.extras.recbole.job import Job

MODELS = ("GRU4Rec", "Caser", "HGN", "BERT4Rec", "SASRec", "S3Rec", "FDSA")
EPOCH = re.compile(r"^(?P<name>\S+ \d+/\d+) (?:epoch|pretraining) (?P<done>\d+)/(?P<total>\d+)(?P<note>.*)")


@dataclass(frozen=True)
class RecBoleSettings:
    """Which models, and how they are trained; what is left out stands in templates/recbole.yaml."""

    models: tuple[str, ...] = option(MODELS, help="models of RecBole, one after the other")
    python: str = option(".venv-recbole/bin/python", help="interpreter of the environment that has RecBole")
    split: Literal["test", "valid"] = option("test", help="the interaction that is asked for")
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="places at which recall and NDCG are taken")
    recommendations: int = option(20, least=1, help="items a user")
    window: int = option(20, least=1, help="items of a history that a model sees")
    trials: int = option(
        8, least=1, help="at most so many of a model's stated settings are tried; validation users choose"
    )
    overrides: dict[str, Any] = option({}, help="keys of RecBole to change in every trial, e.g. epochs=100")
    seed: int = option(0, help="seed of the training")
    gpu: bool = option(False, help="train on the GPU")

    def __post_init__(self) -> None:
        check_cutoffs(self.cutoffs, self.recommendations)
        for model in self.models:
            if model not in MODELS:
                raise GreamError(f"models names {model!r}; there are {', '.join(MODELS)}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise GreamError("models must name each model once, and at least one")


def run(workspace: Workspace, settings: RecBoleSettings) -> None:
    from gream_ext.data.histories import evaluation_cases, training_histories
    from gream_ext.evaluation.protocol import stem, summarise, write_evaluation
    from gream_ext.extras.report.data import write_results
    from gream_ext.items.index import ItemIndex

    python = Path(settings.python).absolute()  # not resolved: the link is what makes it that environment's
    if not python.exists():
        raise GreamError(f"--python {settings.python} is not there: scripts/setup_recbole_env.sh makes it")
    index = ItemIndex.load(workspace.item_index)
    training = training_histories(workspace)
    cases = {"valid": evaluation_cases(workspace, "valid"), "test": evaluation_cases(workspace, settings.split)}
    own = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "categories").rows())
    categories = {item: own.get(item) or [] for item in index.item_ids}
    popular = popular_items(training, index.item_ids)
    inputs = [digest(fingerprint(path)) for path in _reads(workspace, settings)]
    for model in settings.models:
        job = make_job(model, settings)
        key = identity([asdict(job), inputs, settings.cutoffs])
        if finished(workspace, settings, model, key):
            print(f"baselines recbole: {model} is there")
            continue
        tables, result = train(workspace, python, job, training, cases, categories)
        for rows, exclude_seen in zip(tables, (False, True), strict=True):
            about = {"model": model, "mode": "direct", "split": settings.split, "exclude_seen": exclude_seen}
            figures = summarise(rows, "direct", settings.cutoffs, len(index), popular)
            path = stem(workspace, model, "direct", settings.split, exclude_seen)
            write_evaluation(path, rows, {**about, **figures, "training": result, "key": key}, about)
            name = f"{model}, excluding seen" if exclude_seen else model
            shown = ", ".join(f"recall@{cutoff} {figures[f'recall@{cutoff}']:.4f}" for cutoff in settings.cutoffs)
            print(f"baselines recbole: {name}: {shown} ({len(rows)} users)")
    write_results(workspace)


def train(
    workspace: Workspace,
    python: Path,
    job: "Job",
    training: "Mapping[str, Sequence[str]]",
    cases: "Mapping[str, Sequence[Case]]",
    categories: "Mapping[str, Sequence[str]]",
) -> "tuple[list[pl.DataFrame], dict[str, Any]]":
    """Run RecBole on a job; what `gream_ext.extras.recbole.job.read_result` gives."""
    from gream_ext.extras.recbole.job import read_result, write_job

    quiet = {"PYTHONWARNINGS": "ignore"}  # what RecBole does not know of newer versions of pandas and torch
    with tempfile.TemporaryDirectory(prefix="gream-recbole-") as made:
        folder = Path(made)
        write_job(folder, job, training, cases, categories)
        words = [str(python), "-m", "gream_ext.extras.recbole", str(folder)]
        launch(words, name=f"recbole-{job.model}", workspace=workspace, environment=quiet, progress=read_progress)
        return read_result(folder, cases["test"], list(categories))


def make_job(model: str, settings: RecBoleSettings) -> "Job":
    """The shipped settings of a model, with the user's."""
    from gream_ext.extras.recbole.job import ATTRIBUTED, Job, catalogue_of_models

    shipped = catalogue_of_models()
    own: Mapping[str, Any] = shipped["models"][model]
    trials: list[dict[str, Any]] = []
    for keys in own["trials"]:
        changed = {**keys, **settings.overrides}
        if changed not in trials:  # what is overridden need not be tried twice
            trials.append(changed)
    return Job(
        model=model,
        keys={**shipped["common"], **own["keys"]},
        trials=trials[: settings.trials],
        window=settings.window,
        recommendations=settings.recommendations,
        seed=settings.seed,
        attributes=model in ATTRIBUTED,
        gpu=settings.gpu,
    )


def identity(value: Any) -> str:
    """A short hash of what can be written as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def finished(workspace: Workspace, settings: RecBoleSettings, model: str, key: str) -> bool:
    """Whether an earlier run, interrupted at a later model perhaps, left this one's figures."""
    from gream_ext.evaluation.protocol import files, stem

    for exclude_seen in (False, True):
        table, about = files(stem(workspace, model, "direct", settings.split, exclude_seen))
        try:
            if not table.exists() or json.loads(about.read_text(encoding="utf-8")).get("key") != key:
                return False
        except (OSError, ValueError, AttributeError):
            return False
    return True


def read_progress(line: str) -> Progress | None:
    """An epoch, as `gream_ext.extras.recbole` prints it.

    >>> read_progress("SASRec 1/2 epoch 3/40 ndcg@10 0.0512")
    Progress(done=3, total=40, note='SASRec 1/2 ndcg@10 0.0512', phase=None)
    """
    found = EPOCH.match(line)
    return Progress(int(found["done"]), int(found["total"]), found["name"] + found["note"]) if found else None


def _reads(workspace: Workspace, settings: RecBoleSettings) -> Sequence[Path]:
    return [workspace.interactions, workspace.items, workspace.item_index]


def _writes(workspace: Workspace, settings: RecBoleSettings) -> list[Path]:
    from gream_ext.evaluation.protocol import files, stem

    stems = [
        stem(workspace, model, "direct", settings.split, seen) for model in settings.models for seen in (False, True)
    ]
    return [file for path in stems for file in files(path)]


def _label(settings: RecBoleSettings) -> str:
    which = "" if settings.models == MODELS else f" {' '.join(settings.models)}"
    return f"baselines recbole{which}" + ("" if settings.split == "test" else f" {settings.split}")


STAGE = Stage(name="baselines recbole", settings=RecBoleSettings, run=run, reads=_reads, writes=_writes, label=_label)
