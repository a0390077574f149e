"""A handful of test users for the page: history, reasoning and recommendations, by title."""

import random
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import polars as pl

from gream_ext.data.histories import evaluation_cases
from gream_ext.evaluation.files import Evaluations, read_evaluation
from gream_ext.evaluation.metrics import MISSED, ranks
from gream_ext.identifiers import IDENTIFIER_TOKENS, Identifier, find_all
from gream_ext.items.index import ItemIndex
from gream_ext.rewards import STATUSES
from gream_ext.workspace import ITEMS, Workspace, read_table

TitleOf = Callable[[Identifier], str | None]
"""The title of the item that an identifier names, or None."""
HEADING = re.compile(r"^(Step \d+: [^:]{1,80}:)\s*(.*)$", re.S)
MARKERS = re.compile(r"</?(?:think|answer)>")
SHOWN = 10
"""Items of a history, and of the recommendations."""


def users(workspace: Workspace, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Some test users, as the page's template wants them; none before an evaluation of direct mode.

    Half are drawn among the users whose next item is among the ten that direct mode recommends, as far as there
    are so many, and half among all users.
    """
    direct, reason = latest(workspace, "direct"), latest(workspace, "reason")
    if direct is None or count < 1:
        return []
    found = ranks(direct["target"].to_list(), direct["recommendations"].list.head(SHOWN).to_list()) != MISSED
    rng = random.Random(f"report/{seed}")
    hits = direct.filter(pl.Series(found))["user_id"].to_list()
    drawn = rng.sample(hits, min(len(hits), count // 2))
    others = [user for user in direct["user_id"].to_list() if user not in drawn]
    chosen = [*drawn, *rng.sample(others, min(len(others), count - len(drawn)))]
    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").rows())
    index = ItemIndex.load(workspace.item_index)

    def title_of(identifier: Identifier) -> str | None:
        item = index.item(identifier)
        return None if item is None else titles.get(item) or item

    histories = {case.user_id: case.history for case in evaluation_cases(workspace, "test")}
    return [
        example(histories[user], rows_of(direct, user)[0], next(iter(rows_of(reason, user)), None), titles, title_of)
        for user in chosen
    ]


def latest(workspace: Workspace, mode: str) -> pl.DataFrame | None:
    """The test evaluation in this mode of the model that was trained last."""
    found = Evaluations(workspace)
    path = found.find("srpo", mode) or found.find("sft", mode)
    return read_evaluation(path) if path else None


def rows_of(rows: pl.DataFrame | None, user: str) -> list[dict[str, Any]]:
    return [] if rows is None else rows.filter(pl.col("user_id") == user).to_dicts()


def example(
    history: Sequence[str],
    direct: dict[str, Any],
    reason: dict[str, Any] | None,
    titles: dict[str, str],
    title_of: TitleOf,
) -> dict[str, Any]:
    """One user as the page's template wants it; the reasoning is the first sample, whatever it says."""
    target, recommended = direct["target"], direct["recommendations"][:SHOWN]
    badges = [
        f"found {ordinal(recommended.index(target) + 1)}" if target in recommended else "next item not among the ten"
    ]
    reasoning, fault = [], ""
    if reason and reason["text"]:
        reasoning = parts(reason["text"][0], title_of)
        fault = "" if reason["item"][0] else f"No recommendation: {STATUSES.get(reason['status'][0], 'it was cut')}."
        badges.append(f"named by {reason['item'].count(target)} of {len(reason['item'])} reasonings")
    return {
        "user_id": direct["user_id"],
        "history": [{"title": titles.get(item) or item, "hit": False, "score": ""} for item in history[-SHOWN:]],
        "earlier": max(0, len(history) - SHOWN),
        "target": titles.get(target) or target,
        "badges": badges,
        "badge_tone": "good" if target in recommended else "",
        "reasoning": reasoning,
        "fault": fault,
        "direct": [
            {"title": titles.get(item) or item, "hit": item == target, "score": f"{score:.2f}"}
            for item, score in zip(recommended, direct["scores"], strict=False)
        ],
    }


def ordinal(rank: int) -> str:
    """
    >>> [ordinal(rank) for rank in (1, 2, 3, 10)]
    ['1st', '2nd', '3rd', '10th']
    """
    return f"{rank}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(rank, 'th') }"


class Span(NamedTuple):
    text: str
    item: bool = False


class Part(NamedTuple):
    """One paragraph; ``answer`` is the one that recommends."""

    heading: str
    spans: list[Span]
    answer: bool = False


def spans(text: str, title_of: TitleOf) -> list[Span]:
    """Text with its identifiers replaced by titles; what names no item is left as it stands.

    >>> spans("bought <|a_1|><|b_2|>.", lambda identifier: "Velta")
    [Span(text='bought ', item=False), Span(text='Velta', item=True), Span(text='.', item=False)]
    """
    found: list[Span] = []
    end = 0
    for match in IDENTIFIER_TOKENS.finditer(text):
        if match.start() > end:
            found.append(Span(text[end : match.start()]))
        named = find_all(match.group())
        whole = bool(named) and "".join(token for identifier in named for token in identifier) == match.group()
        titles = [title_of(identifier) for identifier in named] if whole else []
        if titles and all(title is not None for title in titles):
            for place, title in enumerate(titles):
                found.extend([Span(" ")] if place else [])
                found.append(Span(str(title), item=True))
        else:
            found.append(Span(match.group()))
        end = match.end()
    if end < len(text):
        found.append(Span(text[end:]))
    return found


def parts(response: str, title_of: TitleOf) -> list[Part]:
    """The paragraphs of a response, without its markers; works on malformed ones too."""
    found = []
    for line in response.splitlines():
        text = MARKERS.sub("", line).strip()
        if not text:
            continue
        heading = HEADING.match(text)
        head, rest = heading.groups() if heading else ("", text)
        found.append(Part(head, spans(rest, title_of), answer="<answer>" in line))
    return found
