"""What a model is compared with: most popular, first-order Markov, co-occurrence, and a model of another workspace.

The first three are fitted on training interactions and nothing else. All leave the files that `evaluate` leaves.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gream_ext.data.co_occurrence import item_pair_counts
from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import files, ranked_rows, read_evaluation, stem, write_evaluation
from gream_ext.evaluation.protocol import impossible_targets, summarise, summary_line
from gream_ext.evaluation.stages import BaselinesSettings, BringSettings
from gream_ext.inference.co_occurrence import CoOccurrence
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, read_json

Ranker = Callable[[Sequence[str], Collection[str], int], list[tuple[str, float]]]
"""``(history, excluded, count) -> [(item, score)]``, best first; empty where all items are excluded."""


def popularity(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> dict[str, int]:
    """Training interactions of each item, most popular first; ties in the order of ``item_ids``."""
    counts = Counter(item for history in histories.values() for item in history)
    return {item: counts[item] for item in sorted(item_ids, key=lambda item: -counts[item])}


def popular_items(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> list[str]:
    """The most popular tenth of the catalogue."""
    return list(popularity(histories, item_ids))[: max(1, len(item_ids) // 10)]


def popular_ranker(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> Ranker:
    """Everybody gets the most popular items. The score is the number of interactions."""
    order = popularity(histories, item_ids)

    return lambda history, excluded, count: _first(((item, float(n)) for item, n in order.items()), excluded, count)


def markov_ranker(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> Ranker:
    """What followed the user's last item most often in training; ties, and what never did, by popularity.

    The score is the number of times, plus the item's share of all interactions, which is below one.
    """
    order = popularity(histories, item_ids)
    total = sum(order.values()) + 1
    shares = {item: count / total for item, count in order.items()}
    rank_of = {item: number for number, item in enumerate(order)}
    following: dict[str, Counter[str]] = defaultdict(Counter)
    for history in histories.values():
        for item, follower in pairwise(history):
            following[item][follower] += 1

    def rank(history: Sequence[str], excluded: Collection[str], count: int) -> list[tuple[str, float]]:
        after = following.get(history[-1], Counter()) if history else Counter()
        seen_to_follow = sorted(after, key=lambda item: (-after[item], rank_of[item]))
        rest = (item for item in order if item not in after)
        scored = ((item, after[item] + shares[item]) for part in (seen_to_follow, rest) for item in part)
        return _first(scored, excluded, count)

    return rank


def co_occurrence_ranker(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> Ranker:
    """What stood near the history's latest items in training, as `CoOccurrence` counts it; ties by popularity."""
    order = list(popularity(histories, item_ids))
    row = {item: number for number, item in enumerate(order)}

    counted = CoOccurrence(item_pair_counts(histories.values(), row), weight=1.0)

    def rank(history: Sequence[str], excluded: Collection[str], count: int) -> list[tuple[str, float]]:
        mass = counted.prior([[row[item] for item in history if item in row]]).masses[0]
        best = np.argsort(-mass, kind="stable")
        return _first(((order[number], float(mass[number])) for number in best), excluded, count)

    return rank


def _first(scored: Iterable[tuple[str, float]], excluded: Collection[str], count: int) -> list[tuple[str, float]]:
    excluded = frozenset(excluded)
    return list(islice((one for one in scored if one[0] not in excluded), count))


RANKERS = {"popular": popular_ranker, "markov": markov_ranker, "co-occurrence": co_occurrence_ranker}


def measure_simple(workspace: Workspace, settings: BaselinesSettings) -> None:
    """Fit, ask and measure `RANKERS`, with seen items allowed and excluded."""
    item_ids = ItemIndex.load(workspace.item_index).item_ids
    histories, cases = training_histories(workspace), evaluation_cases(workspace, settings.split)
    popular = popular_items(histories, item_ids)
    for name, make in RANKERS.items():
        rank = make(histories, item_ids)
        for exclude_seen in (False, True):
            most = settings.recommendations
            rows = ranked_rows(
                cases, [rank(case.history, case.history if exclude_seen else (), most) for case in cases]
            )
            path = stem(workspace, name, "direct", settings.split, exclude_seen)
            figures = write_baseline(path, rows, cases, exclude_seen, settings.cutoffs, item_ids, popular)
            print(f"baselines: {name}{', excluding seen' if exclude_seen else ''}: {figures}")


def write_baseline(
    path: Path,
    rows: pl.DataFrame,
    cases: Sequence[Case],
    exclude_seen: bool,
    cutoffs: Sequence[int],
    item_ids: Sequence[str],
    popular: Sequence[str],
    **facts: Any,
) -> str:
    """Measure the rows of a baseline and write its two files, ``facts`` in the summary; returns a line about them."""
    split = path.name.split("-")[1]
    about = {"model": path.parent.name, "mode": "direct", "split": split, "exclude_seen": exclude_seen}
    figures = summarise(rows, "direct", cutoffs, len(item_ids), popular)
    if exclude_seen:
        figures["impossible_targets"] = impossible_targets(cases)
    write_evaluation(path, rows, {**about, **figures, **facts}, about)
    return summary_line(figures, ["recall"], cutoffs)


def bring(workspace: Workspace, settings: BringSettings) -> None:
    """Copy the direct evaluations of another workspace's model as those of a baseline of this one.

    `GreamError` unless there is one, and both workspaces have the same users and targets.
    """
    name, source, model, split = settings.name, Workspace(settings.source), settings.model, settings.split
    wanted = sorted((case.user_id, case.target) for case in evaluation_cases(workspace, split))
    brought = []
    for exclude_seen in (False, True):
        path = stem(source, model, "direct", split, exclude_seen)
        if not files(path)[0].exists():
            continue
        brought.append("seen items excluded" if exclude_seen else "all items")
        rows, about = read_evaluation(path), read_json(files(path)[1], "evaluate")
        if sorted(rows.select("user_id", "target").rows()) != wanted:
            raise GreamError(f"{files(path)[0]} has other users or targets than this workspace: prepare both alike")
        told = {"model": name, "mode": "direct", "split": split, "exclude_seen": exclude_seen}
        beams = {key: about[key] for key in ("beams",) if key in about}
        here = stem(workspace, name, "direct", split, exclude_seen)
        write_evaluation(here, rows, {**about, **told, "brought_from": model}, {**told, **beams})
    if not brought:
        raise GreamError(
            f"{source.root} has no direct evaluation of {model!r} on {split} users: run `gream evaluate --workspace "
            f"{source.root} --model {model} --split {split}` first"
        )
    print(f"baselines bring: {name}: {', '.join(brought)} ({len(wanted)} users)")
