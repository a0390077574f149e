"""A handful of test users for the page: history, reasoning and recommendations, by title."""

import random
from collections.abc import Sequence
from typing import Any

import polars as pl

from gream_ext.data.histories import evaluation_cases
from gream_ext.evaluation.protocol import files, read_evaluation, stem
from gream_ext.extras.report.reasoning import TitleOf, parts
from gream_ext.identifiers import Identifier
from gream_ext.items.index import ItemIndex
from gream_ext.rewards import STATUSES
from gream_ext.workspace import ITEMS, Workspace, read_table

SHOWN_HISTORY = 10
SHOWN_ITEMS = 10


def users(workspace: Workspace, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Some test users, as the page's template wants them; none before an evaluation of direct mode.

    Half are drawn among the users whose next item is among the ten that direct mode recommends, as far as there
    are so many, and half among all users.
    """
    direct, reason = latest(workspace, "direct"), latest(workspace, "reason")
    if direct is None or count < 1:
        return []
    hits = [user for user, place in places(direct).items() if place < SHOWN_ITEMS]
    chance = random.Random(f"report/{seed}")
    found = chance.sample(hits, min(len(hits), count // 2))
    others = [user for user in direct["user_id"].to_list() if user not in found]
    chosen = [*found, *chance.sample(others, min(len(others), count - len(found)))]
    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").rows())
    index = ItemIndex.load(workspace.item_index)

    def title_of(identifier: Identifier) -> str | None:
        item = index.item(identifier)
        return None if item is None else titles.get(item) or item

    cases = {case.user_id: case for case in evaluation_cases(workspace, "test")}
    shown = []
    for user in chosen:
        reasoned = None if reason is None else row_of(reason, user)
        shown.append(example(cases[user].history, row_of(direct, user), reasoned, titles, title_of))
    return shown


def latest(workspace: Workspace, mode: str) -> pl.DataFrame | None:
    """The test evaluation in this mode of the model that was trained last."""
    for model in ("srpo", "sft"):
        path = stem(workspace, model, mode, "test", False)
        if files(path)[0].exists():
            return read_evaluation(path)
    return None


def places(rows: pl.DataFrame) -> dict[str, int]:
    """Place of each user's target among the recommendations, from 0; a user without a hit is left out."""
    return {
        user: items.index(target)
        for user, target, items in rows.select("user_id", "target", "recommendations").rows()
        if target in items
    }


def row_of(rows: pl.DataFrame, user: str) -> dict[str, Any] | None:
    return next(rows.filter(pl.col("user_id") == user).iter_rows(named=True), None)


def example(
    history: Sequence[str],
    direct: dict[str, Any] | None,
    reason: dict[str, Any] | None,
    titles: dict[str, str],
    title_of: TitleOf,
) -> dict[str, Any]:
    """One user as the page's template wants it; the reasoning is the first sample, whatever it says."""
    assert direct is not None
    target, recommended = direct["target"], direct["recommendations"][:SHOWN_ITEMS]
    shown = list(history)[-SHOWN_HISTORY:]
    badges = [place_text(recommended.index(target)) if target in recommended else "next item not among the ten"]
    reasoning, fault = [], ""
    if reason and reason["text"]:
        reasoning = parts(reason["text"][0], title_of)
        fault = "" if reason["item"][0] else f"No recommendation: {STATUSES.get(reason['status'][0], 'it was cut')}."
        badges.append(f"named by {sum(item == target for item in reason['item'])} of {len(reason['item'])} reasonings")
    return {
        "user_id": direct["user_id"],
        "history": [{"title": titles.get(item) or item, "hit": False, "score": None} for item in shown],
        "earlier": len(history) - len(shown),
        "target": titles.get(target) or target,
        "badge": ", ".join(badges),
        "badge_tone": "good" if target in recommended else "",
        "reasoning": reasoning,
        "fault": fault,
        "direct": [
            {"title": titles.get(item) or item, "hit": item == target, "score": f"{score:.2f}"}
            for item, score in zip(recommended, direct["scores"], strict=False)
        ],
    }


def place_text(place: int) -> str:
    """
    >>> [place_text(place) for place in (0, 1, 2, 9)]
    ['found 1st', 'found 2nd', 'found 3rd', 'found 10th']
    """
    return f"found {place + 1}{ {0: 'st', 1: 'nd', 2: 'rd'}.get(place, 'th') }"
