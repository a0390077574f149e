"""What an evaluation leaves behind: one row a user, one file an evaluation, the same columns for models and baselines.

So any figure can be taken again later, and any two evaluations of the same users can be paired.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.inference.export_format import MODEL_FILES, sha256
from gream_ext.workspace import Schema, Workspace, read_json, read_table, write_json, write_table

EVALUATION = Schema(
    "evaluation",
    1,
    {
        "user_id": "String",
        "target": "String",
        "recommendations": "List(String)",  # item ids, best first; reasoning mode: by votes
        "scores": "List(Float32)",  # direct mode: log-probability; reasoning mode: share of the samples
        # Reasoning mode, one entry a sample, in the order of sampling; empty in direct mode.
        "item": "List(String)",  # null where the sample names no real item
        "matched_levels": "List(Int32)",
        "reward": "List(Float32)",
        "status": "List(String)",
        "well_formed": "List(Boolean)",
        "truncated": "List(Boolean)",
        "tokens": "List(Int32)",
        "text": "List(String)",
    },
)
SAMPLED = tuple(EVALUATION.columns)[4:]
MODES = ("direct", "reason")
OWN_MODELS = ("base_model", "sft", "srpo")
"""The models of a workspace, which are called by their folders. Others get names that nothing else can have."""

FIGURE = re.compile(
    r"(recall|ndcg|pass|first)@\d+|well_formed|answered|truncated|mean_reward|tokens|coverage|popular_share|validity"
    r"|users|impossible_targets|written_items|faithful"
)
"""What of an evaluation's summary is a figure; the rest says how it was made."""


def stem(workspace: Workspace, model: str, mode: str, split: str, exclude_seen: bool) -> Path:
    """``evaluation/<model>/<mode>-<split>[-unseen]``, to which ``.parquet`` and ``.json`` are added."""
    path = workspace.evaluation(model, mode, split)
    return path.with_name(f"{path.name}-unseen") if exclude_seen else path


def files(path: Path) -> list[Path]:
    """The two files of an evaluation, by its stem: the rows and the summary."""
    return [path.with_name(f"{path.name}.parquet"), path.with_name(f"{path.name}.json")]


def table_of(path: Path) -> Path:
    """The Parquet file of an evaluation that is named by it or by its stem."""
    return path if path.suffix == ".parquet" else files(path)[0]


def write_evaluation(path: Path, rows: pl.DataFrame, summary: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write both files of an evaluation, the rows with their ``settings``."""
    table, about = files(path)
    write_table(rows, table, EVALUATION, {"settings": dict(settings)})
    write_json(about, dict(summary))


def read_evaluation(path: Path) -> pl.DataFrame:
    """The rows of an evaluation, by its stem or its Parquet file."""
    return read_table(table_of(path), EVALUATION, "evaluate")


def ranked_rows(cases: Sequence[Any], rankings: Sequence[Sequence[tuple[str, float]]]) -> pl.DataFrame:
    """Rows of direct mode: the (item, score) pairs of each case, best first; an empty ranking is a miss."""
    return pl.DataFrame(
        {
            "user_id": [case.user_id for case in cases],
            "target": [case.target for case in cases],
            "recommendations": [[item for item, _ in ranking] for ranking in rankings],
            "scores": [[float(score) for _, score in ranking] for ranking in rankings],
            **{column: [[] for _ in cases] for column in SAMPLED},
        },
        schema_overrides={"recommendations": pl.List(pl.String), "scores": pl.List(pl.Float32)},
    )


class Evaluations:
    """The evaluations of a workspace, as far as they are of its models and item index as they stand there now.

    A model that is not there contradicts none; baselines are taken as they are. ``stale`` has a sentence for each
    evaluation that was asked for and is of another model.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.stale: list[str] = []
        self._hash = cache(lambda model: model_hash(workspace.model(model), workspace.item_index))

    def find(self, model: str, mode: str, split: str = "test", exclude_seen: bool = False) -> Path | None:
        """The stem of an evaluation, None where there is none."""
        path = stem(self.workspace, model, mode, split, exclude_seen)
        about = files(path)[1]
        if not about.exists():
            return None
        own = model.partition("+")[0]
        here = self._hash(own) if own in OWN_MODELS else None
        if here in (None, read_json(about, f"evaluate --model {model} --mode {mode}").get("model_sha256")):
            return path
        name = about.relative_to(self.workspace.root).as_posix()
        self.stale.append(f"{name} is not of the {model} model that stands here now: run `gream evaluate` again")
        return None

    def figures(self, model: str, mode: str, exclude_seen: bool = False) -> dict[str, Any] | None:
        """The figures on test users with their intervals and statuses."""
        path = self.find(model, mode, "test", exclude_seen)
        if path is None:
            return None
        summary = read_json(files(path)[1], "evaluate")
        found = {name: value for name, value in summary.items() if FIGURE.fullmatch(name)}
        return {**found, "intervals": summary.get("intervals", {}), "statuses": summary.get("statuses", {})}

    def by_mode(self, model: str, exclude_seen: bool = False) -> dict[str, Any] | None:
        """The same of each mode, None where there is none at all."""
        found = {mode: self.figures(model, mode, exclude_seen) for mode in MODES}
        return {mode: one for mode, one in found.items() if one} or None


def model_hash(folder: Path, item_index: Path) -> str | None:
    """SHA-256 over all that a model's answers depend on beside the question; None where there is no model.

    That is its configuration, tokenizer and weights, each file read once, and the item index.
    """
    if not (folder / "config.json").exists() or not item_index.exists():
        return None
    chosen = [file for file in sorted(folder.iterdir()) if MODEL_FILES.fullmatch(file.name)]
    listing = "".join(f"{file.name}\0{sha256(file)}\n" for file in (item_index, *chosen))
    return hashlib.sha256(listing.encode()).hexdigest()


def model_folder(workspace: Workspace, model: str) -> Path:
    """The folder of a model by its name in the workspace, or by its path."""
    named = workspace.model(model)
    return named if model in OWN_MODELS or ("/" not in model and (named / "config.json").exists()) else Path(model)


def model_name(workspace: Workspace, model: str) -> str:
    """What a model's evaluations are called: sft, srpo or base_model where it is the workspace's own.

    Any other is called by its folder and a hash of its path, so that it takes neither their place nor a baseline's.
    """
    folder = model_folder(workspace, model).resolve()
    own = (name for name in OWN_MODELS if workspace.model(name).resolve() == folder)
    return next(own, foreign_name(folder))


def with_prior(model: str, prior: str | None, weight: float) -> str:
    """A model with a prior is called as another one, so that its figures take the place of none of the model's own.

    >>> with_prior("sft", "co-occurrence", 0.5), with_prior("sft", None, 0.5)
    ('sft+co-occurrence0.5', 'sft')
    """
    return f"{model}+{prior}{weight:g}" if prior else model


def foreign_name(folder: Path) -> str:
    """A folder's name and a hash of its path."""
    return f"{folder.resolve().name}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]}"
