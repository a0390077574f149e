"""How figures are taken from the rows of an evaluation, and how two evaluations are compared."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gream_ext.data.histories import Case
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import EVALUATION, read_evaluation, table_of
from gream_ext.evaluation.metrics import Comparison, bootstrap, first_k, ndcg_at, paired, pass_at_k, ranks, recall_at
from gream_ext.workspace import read_metadata

DECODING = {
    "direct": ("mode", "split", "exclude_seen", "beams", "normalisation"),
    "reason": (
        "mode", "split", "exclude_seen", "n", "temperature", "top_p", "max_new_tokens", "constrained", "faithful",
        "rank",
    ),
}  # fmt: skip
"""By mode the settings that two evaluations must share to be compared."""

MEANS = ("reward", "matched_levels", "well_formed", "truncated", "tokens", "answered")
"""Figures that are means over a user's samples."""
AT_CUTOFF = re.compile(r"(recall|ndcg|pass|first)@([1-9][0-9]{0,8})")


def check_cutoffs(cutoffs: Sequence[int], most: int) -> None:
    """`GreamError` unless there is a cutoff, all are from 1 to ``most`` and none stands there twice."""
    if len(set(cutoffs)) < len(cutoffs):
        raise GreamError(f"cutoffs {list(cutoffs)} name one twice: give each once")
    if not cutoffs or not all(1 <= cutoff <= most for cutoff in cutoffs):
        raise GreamError(f"cutoffs must be from 1 to {most} (as many as are recommended), not {list(cutoffs)}")


def figure_of(column: str) -> tuple[str, int] | None:
    """A figure's name and cutoff, which is 0 where it takes none; None for what is no figure.

    >>> figure_of("recall@10"), figure_of("reward"), figure_of("recall@0")
    (('recall', 10), ('reward', 0), None)
    """
    if column in MEANS:
        return column, 0
    found = AT_CUTOFF.fullmatch(column)
    return (found[1], int(found[2])) if found else None


def check_figure(rows: pl.DataFrame, column: str) -> None:
    """`GreamError` where ``column`` cannot be taken, or goes beyond what the users were recommended.

    Reasoning mode recommends what the samples name, so as many as there are samples, at most.
    """
    name, cutoff = _figure(column)
    most = max((len(items) for listed in ("recommendations", "item") for items in rows[listed].to_list()), default=0)
    if name in ("recall", "ndcg") and cutoff > most:
        raise GreamError(f"{column} goes beyond the {most} items that a user is recommended: take a cutoff within them")
    values(rows, column)


def values(rows: pl.DataFrame, column: str) -> np.ndarray:
    """One figure of each user, float64 [users].

    ``recall@k`` and ``ndcg@k`` of the recommendations; of reasoning mode's samples ``pass@k`` (the
    unbiased estimator), ``first@k`` (one of the first k), and the means of ``reward``,
    ``matched_levels``, ``well_formed``, ``truncated`` and ``tokens``, and of ``answered`` (a real item).
    `GreamError` for anything else and for samples that are not there.
    """
    name, cutoff = _figure(column)
    if name in ("recall", "ndcg"):
        places = ranks(rows["target"].to_list(), rows["recommendations"].to_list())
        return (recall_at if name == "recall" else ndcg_at)(places, cutoff)
    counts = rows["item"].list.len()
    if rows.is_empty() or counts.min() == 0 or counts.min() != counts.max():
        raise GreamError(f"{column} needs the samples of reasoning mode, as many for every user")
    if name in ("pass", "first"):
        correct = np.array(
            [[item == target for item in items] for items, target in rows.select("item", "target").rows()]
        )
        try:
            if name == "first":
                return first_k(correct, cutoff)
            return pass_at_k(correct.sum(1), correct.shape[1], cutoff)
        except ValueError as error:
            raise GreamError(f"{column}: {error}") from None
    if name == "answered":
        return np.array([[item is not None for item in items] for items in rows["item"].to_list()]).mean(1)
    return np.array(rows[name].to_list(), dtype=np.float64).mean(1)


def compare(first: Path | pl.DataFrame, second: Path | pl.DataFrame, column: str) -> Comparison:
    """Second minus first in ``column`` (see `values`), paired over users.

    ``compare(before, after, "reward")`` is the gain of RL in mean residual reward. `GreamError` unless
    both have the same users and targets, decoded the same way where both are of one mode.
    """
    if isinstance(first, Path) and isinstance(second, Path):
        _check_decoding(first, second)
    rows = [read_evaluation(one) if isinstance(one, Path) else one for one in (first, second)]
    rows = [one.sort("user_id") for one in rows]
    for name in ("user_id", "target"):
        if rows[0][name].to_list() != rows[1][name].to_list():
            raise GreamError(f"these evaluations cannot be paired: they differ in {name}; evaluate the same users")
    return paired(values(rows[0], column), values(rows[1], column))


def summarise(
    rows: pl.DataFrame,
    mode: str,
    cutoffs: Sequence[int],
    items: int,
    popular: Sequence[str] = (),
    ranked: bool = False,
) -> dict[str, Any]:
    """The figures of an evaluation, each with its 95 % interval over users under ``intervals``.

    ``ranked`` says that reasoning mode ranked items after its reasonings, so that recall and NDCG mean something.
    ``items`` counts the catalogue; ``popular`` are its popular items. ``coverage`` is the share of the
    catalogue that somebody is recommended, ``popular_share`` the popular items' share of what is
    recommended, both within the longest cutoff; ``validity`` the share of the answers that are real items.
    """
    names = ("recall", "ndcg") if mode == "direct" else ("pass", "first", *(("recall", "ndcg") if ranked else ()))
    columns = [f"{name}@{cutoff}" for name in names for cutoff in cutoffs]
    if mode == "reason":
        columns += ["well_formed", "answered", "truncated", "reward", "tokens"]
    intervals = {column: bootstrap(values(rows, column)) for column in columns}
    figures: dict[str, Any] = {"users": len(rows), **{column: one.mean for column, one in intervals.items()}}
    emitted = [item for items_ in rows["recommendations"].to_list() for item in items_[: max(cutoffs)]]
    figures["coverage"] = len(set(emitted)) / items
    figures["popular_share"] = float(np.isin(emitted, list(popular)).mean()) if emitted and popular else None
    figures["validity"] = 1.0
    if mode == "reason":
        figures["mean_reward"] = figures["reward"]
        figures["statuses"] = dict(sorted(rows["status"].explode().value_counts().rows()))
        named, real = int(rows["well_formed"].explode().sum() or 0), int(rows["item"].explode().count())
        figures["validity"] = real / named if named else None
    return {**figures, "intervals": {column: [one.low, one.high] for column, one in intervals.items()}}


def impossible_targets(cases: Sequence[Case]) -> float:
    """The share of users whose target stands in their history: excluding seen items makes it impossible."""
    return sum(case.target in case.history for case in cases) / len(cases)


def summary_line(figures: Mapping[str, Any], names: Sequence[str], cutoffs: Sequence[int]) -> str:
    """``recall@10 0.1234, … (943 users)``, and which targets were impossible, where there were such."""
    shown = ", ".join(f"{name}@{cutoff} {figures[f'{name}@{cutoff}']:.4f}" for name in names for cutoff in cutoffs)
    share = figures.get("impossible_targets", 0.0)
    note = f"; {share:.1%} of the targets were seen before, so that excluding seen items makes them impossible"
    return f"{shown} ({figures['users']} users){note if share else ''}"


def _figure(column: str) -> tuple[str, int]:
    found = figure_of(column)
    if found is None:
        raise GreamError(
            f"{column!r} is no figure of an evaluation: take recall@k, ndcg@k, pass@k or first@k with k from 1, or "
            f"{', '.join(MEANS)}"
        )
    return found


def _check_decoding(first: Path, second: Path) -> None:
    ours, theirs = (read_metadata(table_of(one), EVALUATION, "evaluate").get("settings", {}) for one in (first, second))
    for name in DECODING.get(ours.get("mode"), ("mode",)):
        if name in ours and name in theirs and ours[name] != theirs[name]:
            raise GreamError(
                f"{first} and {second} cannot be compared: {name} is {ours[name]!r} in one and {theirs[name]!r} in the "
                "other; evaluate again"
            )
