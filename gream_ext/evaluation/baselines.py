"""Stage ``baselines``: what needs no model, on the same users: most popular, and first-order Markov.

Both are fitted on training interactions and nothing else. They write the files that `evaluate`
writes, under the names ``popular`` and ``markov``.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

Ranker = Callable[[Sequence[str], Collection[str], int], list[tuple[str, float]]]
"""``(history, excluded, count) -> [(item, score)]``, best first."""


@dataclass(frozen=True)
class BaselinesSettings:
    """Which split, and how many recommendations a user."""

    split: Literal["test", "valid"] = option("test", help="the interaction that is asked for")
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="places at which recall and NDCG are taken")
    recommendations: int = option(20, least=1, help="items a user")

    def __post_init__(self) -> None:
        check_cutoffs(self.cutoffs, self.recommendations)


def check_cutoffs(cutoffs: Sequence[int], most: int) -> None:
    """`GreamError` unless there is a cutoff, all are from 1 to ``most`` and none stands there twice."""
    if len(set(cutoffs)) < len(cutoffs):
        raise GreamError(f"cutoffs {list(cutoffs)} name one twice: give each once")
    if not cutoffs or not all(1 <= cutoff <= most for cutoff in cutoffs):
        raise GreamError(f"cutoffs must be from 1 to {most} (as many as are recommended), not {list(cutoffs)}")


def popularity(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> dict[str, int]:
    """Training interactions of each item, most popular first; ties in the order of ``item_ids``."""
    counts = Counter(item for history in histories.values() for item in history)
    return {item: counts[item] for item in sorted(item_ids, key=lambda item: -counts[item])}


def popular_ranker(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> Ranker:
    """Everybody gets the most popular items. The score is the number of interactions."""
    order = popularity(histories, item_ids)

    def rank(history: Sequence[str], excluded: Collection[str], count: int) -> list[tuple[str, float]]:
        return _first(((item, float(score)) for item, score in order.items()), excluded, count)

    return rank


def markov_ranker(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> Ranker:
    """What followed the user's last item most often in training; ties, and what never did, by popularity.

    The score is the number of times, plus the item's share of all interactions, which is below one.
    """
    order = popularity(histories, item_ids)
    total = sum(order.values()) + 1
    shares = {item: count / total for item, count in order.items()}
    place = {item: number for number, item in enumerate(order)}
    following: dict[str, Counter[str]] = defaultdict(Counter)
    for history in histories.values():
        for item, follower in pairwise(history):
            following[item][follower] += 1

    def rank(history: Sequence[str], excluded: Collection[str], count: int) -> list[tuple[str, float]]:
        after = following.get(history[-1], Counter()) if history else Counter()
        seen_to_follow = sorted(after, key=lambda item: (-after[item], place[item]))
        rest = (item for item in order if item not in after)
        scored = ((item, after[item] + shares[item]) for part in (seen_to_follow, rest) for item in part)
        return _first(scored, excluded, count)

    return rank


RANKERS = {"popular": popular_ranker, "markov": markov_ranker}


def _first(scored: Any, excluded: Collection[str], count: int) -> list[tuple[str, float]]:
    found = []
    for item, score in scored:
        if item not in excluded:
            found.append((item, score))
            if len(found) == count:
                break
    return found


def run(workspace: Workspace, settings: BaselinesSettings) -> None:
    import polars as pl

    from gream_ext.data.histories import evaluation_cases, training_histories
    from gream_ext.evaluation.protocol import SAMPLED, stem, summarise, write_evaluation
    from gream_ext.extras.report.data import write_results
    from gream_ext.items.index import ItemIndex

    item_ids = ItemIndex.load(workspace.item_index).item_ids
    histories = training_histories(workspace)
    cases = evaluation_cases(workspace, settings.split)
    popular = popular_items(histories, item_ids)
    for name, make in RANKERS.items():
        rank = make(histories, item_ids)
        for exclude_seen in (False, True):
            answers = [
                rank(case.history, set(case.history) if exclude_seen else (), settings.recommendations)
                for case in cases
            ]
            rows = pl.DataFrame(
                {
                    "user_id": [case.user_id for case in cases],
                    "target": [case.target for case in cases],
                    "recommendations": [[item for item, _ in answer] for answer in answers],
                    "scores": [[score for _, score in answer] for answer in answers],
                    **{column: [[] for _ in cases] for column in SAMPLED},
                }
            )
            about = {"model": name, "mode": "direct", "split": settings.split, "exclude_seen": exclude_seen}
            figures = summarise(rows, "direct", settings.cutoffs, len(item_ids), popular)
            path = stem(workspace, name, "direct", settings.split, exclude_seen)
            write_evaluation(path, rows, {**about, **figures}, about)
            shown = ", ".join(f"recall@{cutoff} {figures[f'recall@{cutoff}']:.3f}" for cutoff in settings.cutoffs)
            print(f"baselines: {name}{', excluding seen' if exclude_seen else ''}: {shown} ({len(cases)} users)")
    write_results(workspace)


def popular_items(histories: Mapping[str, Sequence[str]], item_ids: Sequence[str]) -> list[str]:
    """The most popular tenth of the catalogue."""
    return list(popularity(histories, item_ids))[: max(1, len(item_ids) // 10)]


def _writes(workspace: Workspace, settings: BaselinesSettings) -> list[Path]:
    from gream_ext.evaluation.protocol import files, stem

    return [
        file
        for name in RANKERS
        for exclude_seen in (False, True)
        for file in files(stem(workspace, name, "direct", settings.split, exclude_seen))
    ]


STAGE = Stage(
    name="baselines",
    settings=BaselinesSettings,
    run=run,
    reads=lambda workspace, settings: [workspace.interactions, workspace.item_index],
    writes=_writes,
    label=lambda settings: "baselines" if settings.split == "test" else f"baselines {settings.split}",
)
