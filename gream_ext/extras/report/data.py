"""What report.json holds: every figure of a workspace, gathered from the files that its stages wrote."""

import os
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.evaluation.files import OWN_MODELS, Evaluations, read_evaluation
from gream_ext.evaluation.metrics import paired
from gream_ext.evaluation.protocol import compare, values
from gream_ext.extras.report.curves import rl_steps
from gream_ext.extras.report.stages import TRIAL
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, read_json

BASELINES = (
    "popular", "markov", "co-occurrence",
    "GRU4Rec", "Caser", "HGN", "BERT4Rec", "SASRec", "S3Rec", "FDSA",
    "P5-CID", "TIGER", "LC-Rec",
)  # fmt: skip
"""Baselines in the order of the paper's Table 2, simple ones first; others that were brought come after them."""
MODELS = ("sft", "srpo")

PAIRS = (
    ("Align − most popular", "popular", "sft", "direct", "recall@10", False),
    ("Align − Markov", "markov", "sft", "direct", "recall@10", False),
    ("Align − Markov, seen excluded", "markov", "sft", "direct", "recall@10", True),
    ("RL − Markov", "markov", "srpo", "direct", "recall@10", False),
    ("RL − Align", "sft", "srpo", "direct", "recall@10", False),
    ("RL − Align", "sft", "srpo", "reason", "pass@1", False),
    ("RL − Align", "sft", "srpo", "reason", "pass@10", False),
)
"""Of each comparison name, first, second, mode, figure, and whether seen items are excluded: second minus first, over
the same test users."""
POOLED = (
    ("Align − Markov", "sft", "markov"),
    ("Align − most popular", "sft", "popular"),
    ("RL − Markov", "srpo", "markov"),
)
"""Over several runs: name, model and baseline of each comparison in Recall@10."""
SEEDED = ("sft", "base-model", "corpus-align", "corpus-reason")
"""Records of stages that have a seed, the one that matters most first."""


def gather(workspace: Workspace, other_runs: Sequence[Workspace] = (), title: str | None = None) -> dict[str, Any]:
    """Everything, with null where a stage has not run yet. ``other_runs`` are the same flow with other seeds."""
    notes: list[str] = []
    runs = [Evaluations(run) for run in (workspace, *other_runs)]
    seeds = [seed_of(run.workspace) for run in runs]
    records = stage_records(workspace)

    def figures(exclude_seen: bool) -> dict[str, Any]:
        own = {name: runs[0].by_mode(name, exclude_seen) for name in MODELS}
        return {"baselines": baseline_figures(runs[0], exclude_seen), **own}

    report = {
        "title": title or "Generative reasoning recommendation",
        "dataset": read_json(workspace.statistics, "prepare") if workspace.statistics.exists() else None,
        "stages": {record["label"]: record["seconds"] + record.get("interrupted_seconds", 0.0) for record in records},
        **figures(False),
        "excluding_seen": figures(True),
        "rl": rl_figures(runs[0], notes),
        "seeds": [seed for seed in seeds if seed is not None],
        "runs": [
            {"seed": seed, **{name: run.by_mode(name) for name in MODELS}}
            for seed, run in zip(seeds, runs, strict=True)
        ],
        "comparisons": comparisons(runs, notes),
        "index": index_quality(workspace),
        "provenance": provenance(records),
    }
    return {**report, "notes": [*dict.fromkeys(line for run in runs for line in run.stale), *notes]}


def baseline_figures(found: Evaluations, exclude_seen: bool) -> dict[str, Any] | None:
    names = [*BASELINES, *brought(found.workspace)]
    figures = {name: found.figures(name, "direct", exclude_seen) for name in names}
    return {name: one for name, one in figures.items() if one} or None


def brought(workspace: Workspace) -> list[str]:
    """Baselines of other names that `gream baselines bring` put here, by name."""
    folders = sorted(path for path in workspace.path("evaluation").glob("*") if path.name not in BASELINES + OWN_MODELS)
    return [
        folder.name
        for folder in folders
        if any("brought_from" in read_json(about, "baselines bring") for about in folder.glob("direct-test*.json"))
    ]


def comparisons(runs: Sequence[Evaluations], notes: list[str]) -> list[dict[str, Any]]:
    """Differences over the same test users; with several runs also those of each user's mean over the runs.

    What cannot be paired is told in ``notes``.
    """

    def files(model: str, mode: str, exclude_seen: bool, some: Sequence[Evaluations] = runs[:1]) -> list[Path | None]:
        return [run.find(model, mode, "test", exclude_seen) for run in some]

    wanted = [
        (name, mode, metric, [*files(first, mode, unseen), *files(second, mode, unseen)])
        for name, first, second, mode, metric, unseen in PAIRS
    ]
    for (title, model, baseline), unseen in product(POOLED if len(runs) > 1 else (), (False, True)):
        name = f"{title}, {len(runs)} seeds{', seen excluded' if unseen else ''}"
        paths = [*files(baseline, "direct", unseen), *files(model, "direct", unseen, runs)]
        wanted.append((name, "direct", "recall@10", paths))
    compared = []
    for name, mode, metric, paths in wanted:
        there = [path for path in paths if path]
        if len(there) < len(paths):
            continue
        try:
            result, *_ = [compare(there[0], other, metric) for other in there[1:]]  # each with the same users
            if len(there) > 2:
                first, *others = (values(read_evaluation(path).sort("user_id"), metric) for path in there)
                result = paired(first, np.mean(others, axis=0))
            compared.append({"name": name, "mode": mode, "metric": metric, **vars(result)})
        except GreamError as error:
            notes.append(f"{name} in {metric} cannot be compared: {error}")
    return compared


def rl_figures(found: Evaluations, notes: list[str]) -> dict[str, Any] | None:
    """Mean residual reward on validation prompts before and after RL, decoded the same way, and the paired error."""
    steps = rl_steps(found.workspace)
    before, after = (found.find(model, "reason", "valid") for model in MODELS)
    rl: dict[str, Any] = {"reward_before": None, "reward_after": None, "standard_error": None}
    if before and after:
        try:
            gain = compare(before, after, "reward")
            rl |= {
                "reward_before": float(values(read_evaluation(before), "reward").mean()),
                "reward_after": float(values(read_evaluation(after), "reward").mean()),
                "standard_error": gain.standard_error,
                "interval": [gain.low, gain.high],
                "prompts": gain.users,
            }
        except GreamError as error:
            notes.append(f"reward before and after RL cannot be compared: {error}")
    if not steps and rl["reward_after"] is None:
        return None
    return {**rl, "steps": max((step.step for step in steps), default=None)}


def index_quality(workspace: Workspace) -> dict[str, Any] | None:
    """The figures of both stages and the shape of the index; None before there is one."""
    if not workspace.item_index.exists():
        return None
    index = ItemIndex.load(workspace.item_index)
    quality: dict[str, Any] = {}
    for name, made_by in (("index_quality.json", "index build"), ("index_report.json", "index report")):
        if workspace.path(name).exists():
            quality |= read_json(workspace.path(name), made_by)
    return {**quality, "length": index.length, "sizes": list(index.sizes)}


def seed_of(workspace: Workspace) -> int | None:
    """The seed that a run was made with, from the records of its stages."""
    for name in SEEDED:
        path = workspace.path("stages", f"{name}.json")
        settings = read_json(path, "run").get("settings", {}) if path.exists() else {}
        for given in (settings.get("overrides"), settings) if isinstance(settings, dict) else ():
            if isinstance(given, dict) and isinstance(given.get("seed"), int):
                return int(given["seed"])
    return None


def stage_records(workspace: Workspace) -> list[dict[str, Any]]:
    """What each finished stage recorded of itself, in the order in which they finished."""
    paths = [path for path in workspace.path("stages").glob("*.json") if not TRIAL.search(path.stem)]
    records = [read_json(path, "run") for path in sorted(paths)]
    finished = [record for record in records if {"label", "seconds"} <= record.keys()]
    return sorted(finished, key=lambda record: str(record.get("finished", "")))


def provenance(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Versions, the machine, and the command and settings of each stage."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "versions": next((record["versions"] for record in reversed(records) if record.get("versions")), {}),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB of memory",
        "commands": [(str(record["label"]), command_text(record)) for record in records],
    }


def command_text(record: Mapping[str, Any]) -> str:
    """The stage as a command line, one option a line."""
    lines = [f"gream {record.get('stage', record['label'])}"]
    for name, value in (record.get("settings") or {}).items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            lines.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, Mapping):
            lines += [" ".join([flag, *(f"{key}={inner}" for key, inner in value.items())])] if value else []
        elif isinstance(value, list | tuple):
            lines += [" ".join([flag, *map(str, value)])] if value else []
        elif value is not None:
            lines.append(f"{flag} {value}")
    return " \\\n    ".join(lines)


def other_workspaces(workspace: Workspace, paths: Sequence[str]) -> list[Workspace]:
    """The workspaces of other runs; `GreamError` names one that is no workspace, or that is among the runs already."""
    known = {workspace.root.resolve()}
    for path in map(Path, paths):
        if not (path / "statistics.json").exists():
            raise GreamError(f"--other-runs {path} is no workspace: it has no statistics.json")
        if path.resolve() in known:
            raise GreamError(f"--other-runs {path} is this run, or named twice: a run counts once")
        known.add(path.resolve())
    return [Workspace(path) for path in paths]
