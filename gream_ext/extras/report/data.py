"""What report.json holds: every figure of a workspace, gathered from the files that its stages wrote."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gream_ext.errors import GreamError
from gream_ext.evaluation.protocol import compare, files, read_evaluation, stem, values
from gream_ext.extras.report.curves import rl_steps
from gream_ext.extras.report.index import index_quality
from gream_ext.extras.report.runs import pooled_comparisons, seed_of
from gream_ext.workspace import Workspace, read_json, whole

BASELINES = ("popular", "markov", "GRU4Rec", "Caser", "HGN", "BERT4Rec", "SASRec", "S3Rec", "FDSA", "TIGER", "LC-Rec")
"""Baselines in the order of the paper's Table 2, simple ones first; others that were brought come after them."""
MODELS = ("sft", "srpo")
MODES = ("direct", "reason")
FIGURE = re.compile(
    r"(recall|ndcg|pass|first)@\d+|well_formed|answered|truncated|mean_reward|tokens|coverage|popular_share|validity|users"
)
"""What of an evaluation's summary is a figure; the rest says how it was made."""

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


def gather(workspace: Workspace, other_runs: Sequence[Workspace] = (), title: str | None = None) -> dict[str, Any]:
    """Everything, with null where a stage has not run yet. ``other_runs`` are the same flow with other seeds."""
    notes: list[str] = []
    unseen = {name: model_figures(workspace, name, exclude_seen=True) for name in MODELS}
    records = stage_records(workspace)
    runs = [workspace, *other_runs]
    comparisons = [*paired_comparisons(workspace, notes), *pooled_comparisons(runs, notes)]
    return {
        "title": title or "Generative reasoning recommendation",
        "dataset": read_json(workspace.statistics, "prepare") if workspace.statistics.exists() else None,
        "stages": {record["label"]: record["seconds"] for record in records},
        "baselines": baseline_figures(workspace, exclude_seen=False),
        **{name: model_figures(workspace, name, exclude_seen=False) for name in MODELS},
        "rl": rl_figures(workspace, notes),
        "excluding_seen": {"baselines": baseline_figures(workspace, exclude_seen=True), **unseen},
        "seeds": [seed for run in runs if (seed := seed_of(run)) is not None],
        "runs": [{"seed": seed_of(run), **{name: model_figures(run, name, False) for name in MODELS}} for run in runs],
        "comparisons": comparisons,
        "index": index_quality(workspace),
        "provenance": provenance(records),
        "notes": notes,
    }


def baseline_figures(workspace: Workspace, exclude_seen: bool) -> dict[str, Any] | None:
    found = {name: figures(workspace, name, "direct", exclude_seen) for name in [*BASELINES, *brought(workspace)]}
    return {name: one for name, one in found.items() if one} or None


def brought(workspace: Workspace) -> list[str]:
    """Baselines of other names that `gream baselines bring` put here, by name."""
    folders = sorted(path for path in workspace.path("evaluation").glob("*") if path.name not in (*BASELINES, *MODELS))
    return [
        folder.name
        for folder in folders
        if any("brought_from" in read_json(about, "baselines bring") for about in folder.glob("direct-test*.json"))
    ]


def write_results(workspace: Workspace) -> None:
    """Write ``evaluation/results.md``: what has been measured on test users so far, in the layout of Table 2."""
    from gream_ext.extras.report.table import markdown_table, results_table

    found = {
        exclude_seen: {
            "baselines": baseline_figures(workspace, exclude_seen),
            **{name: model_figures(workspace, name, exclude_seen) for name in MODELS},
        }
        for exclude_seen in (False, True)
    }
    table = results_table({**found[False], "excluding_seen": found[True]})
    if table:
        with whole(workspace.path("evaluation", "results.md")) as draft:
            draft.write_text(markdown_table(table), encoding="utf-8")


def model_figures(workspace: Workspace, model: str, exclude_seen: bool) -> dict[str, Any] | None:
    """Test figures of a model by mode; None when it has not been evaluated."""
    found = {mode: figures(workspace, model, mode, exclude_seen) for mode in MODES}
    return {mode: one for mode, one in found.items() if one} or None


def figures(workspace: Workspace, model: str, mode: str, exclude_seen: bool) -> dict[str, Any] | None:
    """The figures of one evaluation on test users, with their intervals."""
    about = files(stem(workspace, model, mode, "test", exclude_seen))[1]
    if not about.exists():
        return None
    summary = read_json(about, f"evaluate --model {model} --mode {mode}")
    found = {name: value for name, value in summary.items() if FIGURE.fullmatch(name)}
    return {**found, "intervals": summary.get("intervals", {}), "statuses": summary.get("statuses", {})}


def paired_comparisons(workspace: Workspace, notes: list[str]) -> list[dict[str, Any]]:
    """Differences over the same test users; what cannot be paired is told in ``notes``."""
    found = []
    for name, first, second, mode, metric, unseen in PAIRS:
        paths = [stem(workspace, model, mode, "test", unseen) for model in (first, second)]
        if all(files(path)[0].exists() for path in paths):
            try:
                result = compare(paths[0], paths[1], metric)
                found.append({"name": name, "mode": mode, "metric": metric, **vars(result)})
            except GreamError as error:
                notes.append(f"{name} in {metric} cannot be compared: {error}")
    return found


def rl_figures(workspace: Workspace, notes: list[str]) -> dict[str, Any] | None:
    """Mean residual reward on validation prompts before and after RL, decoded the same way, and the paired error."""
    steps = rl_steps(workspace)
    before, after = (stem(workspace, model, "reason", "valid", False) for model in MODELS)
    found: dict[str, Any] = {"reward_before": None, "reward_after": None, "standard_error": None}
    if files(before)[0].exists() and files(after)[0].exists():
        try:
            gain = compare(before, after, "reward")
            found |= {f"reward_{when}": float(values(read_evaluation(path), "reward").mean())
                      for when, path in (("before", before), ("after", after))}  # fmt: skip
            found |= {"standard_error": gain.standard_error, "interval": [gain.low, gain.high], "prompts": gain.users}
        except GreamError as error:
            notes.append(f"reward before and after RL cannot be compared: {error}")
    if not steps and found["reward_after"] is None:
        return None
    return {**found, "steps": max((step.step for step in steps), default=None)}


def stage_records(workspace: Workspace) -> list[dict[str, Any]]:
    """What each finished stage recorded of itself, in the order in which they finished."""
    records = []
    for path in sorted(workspace.path("stages").glob("*.json")):
        record = read_json(path, "run")
        trial = re.search(r"-first\d+$", path.stem)  # a trial on the first users is no part of the run
        if isinstance(record, dict) and {"label", "seconds"} <= record.keys() and not trial:
            records.append(record)
    return sorted(records, key=lambda record: str(record.get("finished", "")))


def provenance(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Versions, the machine, and the command and settings of each stage."""
    versions: Mapping[str, str] = next(
        (record["versions"] for record in reversed(records) if record.get("versions")), {}
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "versions": versions,
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
        elif isinstance(value, Mapping):
            if value:
                yield " ".join([flag, *(f"{key}={inner}" for key, inner in value.items())])
        elif isinstance(value, list | tuple):
            if value:
                yield " ".join([flag, *map(str, value)])
        elif value is not None:
            yield f"{flag} {value}"


def title_paths(workspace: Workspace, paths: Sequence[str]) -> list[Workspace]:
    """The workspaces of other runs; `GreamError` names one that is no workspace, or that is among the runs already."""
    found: list[Workspace] = []
    known = {workspace.root.resolve()}
    for path in paths:
        if not (Path(path) / "statistics.json").exists():
            raise GreamError(f"--other-runs {path} is no workspace: it has no statistics.json")
        place = Path(path).resolve()
        if place in known:
            raise GreamError(f"--other-runs {path} is this run, or named twice: a run counts once")
        known.add(place)
        found.append(Workspace(path))
    return found
