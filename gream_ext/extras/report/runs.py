"""Several runs of the same flow with other seeds: their seeds, and their mean against a baseline."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.evaluation.metrics import paired
from gream_ext.evaluation.protocol import files, read_evaluation, stem, values
from gream_ext.workspace import Workspace, read_json

SEEDED = ("sft", "base-model", "corpus-align", "corpus-reason")
"""Records of stages that have a seed, the one that matters most first."""

POOLED = (
    ("Align − Markov", "sft", "markov"),
    ("Align − most popular", "sft", "popular"),
    ("RL − Markov", "srpo", "markov"),
)
"""Name, model and baseline of each comparison."""


def seed_of(workspace: Workspace) -> int | None:
    """The seed that a run was made with, from the records of its stages."""
    for name in SEEDED:
        path = workspace.path("stages", f"{name}.json")
        settings = read_json(path, "run").get("settings", {}) if path.exists() else {}
        for given in (settings.get("overrides"), settings) if isinstance(settings, dict) else ():
            if isinstance(given, dict) and isinstance(given.get("seed"), int):
                return int(given["seed"])
    return None


def pooled_comparisons(runs: Sequence[Workspace], notes: list[str]) -> list[dict[str, Any]]:
    """With several runs: each user's Recall@10 as the mean over the runs, minus a baseline's."""
    if len(runs) < 2:
        return []
    found = []
    for (title, model, baseline), unseen in product(POOLED, (False, True)):
        ours = [stem(run, model, "direct", "test", unseen) for run in runs]
        theirs = stem(runs[0], baseline, "direct", "test", unseen)
        if not all(files(path)[0].exists() for path in (*ours, theirs)):
            continue
        name = f"{title}, {len(runs)} seeds{', seen excluded' if unseen else ''}"
        try:
            users, recalls = zip(*(by_user(path, "recall@10") for path in (theirs, *ours)), strict=True)
            if any(own != users[0] for own in users):
                raise GreamError("the runs have different test users")
            result = paired(recalls[0], np.mean(recalls[1:], axis=0))
            found.append({"name": name, "mode": "direct", "metric": "recall@10", **vars(result)})
        except GreamError as error:
            notes.append(f"{name} cannot be compared: {error}")
    return found


def by_user(path: Path, metric: str) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Users with their targets, in order, and a figure of each."""
    rows = read_evaluation(path).sort("user_id")
    return list(zip(rows["user_id"], rows["target"], strict=True)), values(rows, metric)
