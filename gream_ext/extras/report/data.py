"""What report.json holds: every figure of a workspace, gathered from the files that its stages wrote."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.evaluation.files import OWN_MODELS, Evaluations, read_evaluation
from gream_ext.evaluation.metrics import paired
from gream_ext.evaluation.protocol import compare, values
from gream_ext.extras.report.curves import rl_steps
from gream_ext.extras.report.index import index_quality
from gream_ext.workspace import Workspace, read_json

BASELINES = ("popular", "markov", "GRU4Rec", "Caser", "HGN", "BERT4Rec", "SASRec", "S3Rec", "FDSA", "TIGER", "LC-Rec")
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
    report = {
        "title": title or "Generative reasoning recommendation",
        "dataset": read_json(workspace.statistics, "prepare") if workspace.statistics.exists() else None,
        "stages": {record["label"]: record["seconds"] + record.get("interrupted_seconds", 0.0) for record in records},
        **measured(runs[0]),
        "rl": rl_figures(runs[0], notes),
        "seeds": [seed for seed in seeds if seed is not None],
        "runs": [
            {"seed": seed, **{name: run.by_mode(name) for name in MODELS}}
            for seed, run in zip(seeds, runs, strict=True)
        ],
        "comparisons": [*paired_comparisons(runs[0], notes), *pooled_comparisons(runs, notes)],
        "index": index_quality(workspace),
        "provenance": provenance(records),
    }
    return {**report, "notes": [*dict.fromkeys(line for run in runs for line in run.stale), *notes]}


def measured(found: Evaluations) -> dict[str, Any]:
    """Figures on test users of baselines and models, which is what the results table shows; seen items allowed, too."""
    plain, unseen = (
        {"baselines": baseline_figures(found, seen), **{name: found.by_mode(name, seen) for name in MODELS}}
        for seen in (False, True)
    )
    return {**plain, "excluding_seen": unseen}


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


def paired_comparisons(found: Evaluations, notes: list[str]) -> list[dict[str, Any]]:
    """Differences over the same test users; what cannot be paired is told in ``notes``."""
    compared = []
    for name, first, second, mode, metric, unseen in PAIRS:
        paths = [found.find(model, mode, "test", unseen) for model in (first, second)]
        if paths[0] and paths[1]:
            try:
                result = compare(paths[0], paths[1], metric)
                compared.append({"name": name, "mode": mode, "metric": metric, **vars(result)})
            except GreamError as error:
                notes.append(f"{name} in {metric} cannot be compared: {error}")
    return compared


def pooled_comparisons(runs: Sequence[Evaluations], notes: list[str]) -> list[dict[str, Any]]:
    """With several runs: each user's Recall@10 as the mean over the runs, minus a baseline's."""
    compared = []
    for (title, model, baseline), unseen in product(POOLED if len(runs) > 1 else (), (False, True)):
        paths = [
            runs[0].find(baseline, "direct", "test", unseen),
            *(run.find(model, "direct", "test", unseen) for run in runs),
        ]
        there = [path for path in paths if path]
        if len(there) < len(paths):
            continue
        name = f"{title}, {len(runs)} seeds{', seen excluded' if unseen else ''}"
        try:
            rows = [read_evaluation(path).sort("user_id") for path in there]
            if any(not one.select("user_id", "target").equals(rows[0].select("user_id", "target")) for one in rows):
                raise GreamError("the runs have different test users")
            first, *others = (values(one, "recall@10") for one in rows)
            result = paired(first, np.mean(others, axis=0))
            compared.append({"name": name, "mode": "direct", "metric": "recall@10", **vars(result)})
        except GreamError as error:
            notes.append(f"{name} cannot be compared: {error}")
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
    records = []
    for path in sorted(workspace.path("stages").glob("*.json")):
        record = read_json(path, "run")
        trial = re.search(r"-first\d+$", path.stem)  # a trial on the first users is no part of the run
        if {"label", "seconds"} <= record.keys() and not trial:
            records.append(record)
    return sorted(records, key=lambda record: str(record.get("finished", "")))


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
    lines = [f"gream {record.get('stage', record['label'])}", *_options(record.get("settings") or {})]
    return " \\\n    ".join(lines)


def _options(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            yield flag if value else flag.replace("--", "--no-", 1)
        elif isinstance(value, Mapping | list | tuple):
            words = (
                [f"{key}={inner}" for key, inner in value.items()] if isinstance(value, Mapping) else map(str, value)
            )
            if value:
                yield " ".join([flag, *words])
        elif value is not None:
            yield f"{flag} {value}"


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
