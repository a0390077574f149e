"""Stage ``corpus preferences``: an LLM tells users' preferences and writes search queries for items (section 4.1).

Optional: without it ``corpus align`` has the template teacher tell them. Every answer is kept in a ledger the moment it
comes back; the wording stands in ``templates/summary.txt`` and ``templates/queries.txt``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from gream_ext.corpus.align import corpus_reads, load_catalogue
from gream_ext.corpus.prompts import WINDOW
from gream_ext.corpus.told import told_path
from gream_ext.errors import GreamError
from gream_ext.extras.ask import Request, ask, estimate
from gream_ext.extras.ask.asking import common_fault, read_template
from gream_ext.extras.ask.options import AskSettings, endpoint_of
from gream_ext.extras.ask.wording import request_of, without_thinking
from gream_ext.stage import Stage, option
from gream_ext.words import word_count
from gream_ext.workspace import Workspace, whole

if TYPE_CHECKING:
    from gream_ext.corpus.catalogue import Catalogue

Row = dict[str, Any]


@dataclass(frozen=True)
class PreferenceSettings(AskSettings):
    """What the LLM tells."""

    summaries: int = option(
        1, least=0, help="summaries of each user, each of another part of the training history; 0: none"
    )
    queries: int = option(3, least=0, help="search queries of each item; 0: none")
    limit: int | None = option(None, least=1, help="only the first so many users and items, to try before buying")
    window: int = option(WINDOW, least=1, help="items of a history that the LLM sees")
    min_words: int = option(20, least=0, help="a shorter summary is rejected")
    max_words: int = option(120, least=1, help="a longer summary is rejected")
    max_query_words: int = option(10, least=1, help="a longer query is rejected")
    item_words: int = option(
        60, least=1, help="longest text of an item that queries are written for, beside title and traits"
    )
    summary_template: str | None = option(None, help="a file in place of templates/summary.txt")
    query_template: str | None = option(None, help="a file in place of templates/queries.txt")
    seed: int = option(0, help="seed of the draw of histories")

    def __post_init__(self) -> None:
        if not self.summaries and not self.queries:
            raise GreamError("summaries and queries are both 0: there is nothing to ask")


def summary_fault(text: str, min_words: int, max_words: int) -> str | None:
    """Why an answer is no preference summary, or None; a reason is named before its colon.

    >>> summary_fault("Likes tea.", 3, 9)
    'length: 2 words, not 3 to 9'
    """
    if (common := common_fault(text)) is not None:
        return common
    count = word_count(text)
    if not min_words <= count <= max_words:
        return f"length: {count} words, not {min_words} to {max_words}"
    return "lists: it is not one paragraph" if re.search(r"^\s*(?:[-*#]|\d+\.)\s", text, re.M) else None


def read_queries(text: str) -> list[str]:
    """The queries of an answer, one a line, without numbering and quotation marks.

    >>> read_queries('1. red tea cup\\n- "big cup"')
    ['red tea cup', 'big cup']
    """
    lines = (re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+", "", line).strip(" \t\"'“”`") for line in text.splitlines())
    return [" ".join(line.split()) for line in lines if line.strip()]


def queries_fault(text: str, count: int, max_words: int) -> str | None:
    """Why an answer is no list of ``count`` different search queries, or None."""
    if (common := common_fault(text)) is not None:
        return common
    queries = read_queries(text)
    if len({query.lower() for query in queries}) != count or len(queries) != count:
        return f"count: {len(queries)} queries, not {count} different ones"
    longest = max(word_count(query) for query in queries)
    return f"length: a query of {longest} words, more than {max_words}" if longest > max_words else None


def user_requests(
    catalogue: "Catalogue", histories: Mapping[str, Any], settings: PreferenceSettings
) -> Iterator[tuple[Request, Row]]:
    """A question for each summary, and the row that its answer completes."""
    from gream_ext.extras.ask.teacher_llm import told

    words = read_template("summary.txt", settings.summary_template, SUMMARY_SLOTS, needed=("history",))
    budget = {"min_words": str(settings.min_words), "max_words": str(settings.max_words)}
    for user in [user for user, history in histories.items() if len(history) > 1][: settings.limit]:
        history = histories[user]
        places = Random(f"preferences/{settings.seed}/{user}").sample(range(1, len(history) + 1), k=len(history))
        for place in sorted(places[: settings.summaries]):
            items = catalogue.get(history[max(0, place - settings.window) : place])
            lines = (f"[{number}] {told(item, 16)}" for number, item in enumerate(items, start=1))
            row = {"kind": "summary", "user_id": user, "place": place, "shown": len(items)}
            yield request_of(f"summary/{user}/{place}", words, {"history": "\n".join(lines), **budget}), row


def item_requests(catalogue: "Catalogue", settings: PreferenceSettings) -> Iterator[tuple[Request, Row]]:
    """A question for each item that has a title, and the row that its answer completes."""
    from gream_ext.extras.ask.teacher_llm import told

    words = read_template("queries.txt", settings.query_template, QUERY_SLOTS, needed=("item",))
    budget = {"count": str(settings.queries), "max_words": str(settings.max_query_words)}
    for item in [item for item in catalogue.items if item.title][: settings.limit] if settings.queries else []:
        slots = {"item": told(item, settings.item_words), **budget}
        yield request_of(f"query/{item.item_id}", words, slots), {"kind": "query", "item_id": item.item_id}


SUMMARY_SLOTS = ("history", "min_words", "max_words")
QUERY_SLOTS = ("item", "count", "max_words")


def run(workspace: Workspace, settings: PreferenceSettings) -> None:
    from gream_ext.data.histories import training_histories

    catalogue, endpoint = load_catalogue(workspace), endpoint_of(settings)
    asked = [*user_requests(catalogue, training_histories(workspace), settings), *item_requests(catalogue, settings)]
    requests, ledger = [request for request, _ in asked], ledger_path(workspace)

    def validate(request: Request, answer: str) -> str | None:
        text = without_thinking(answer)
        if request.key.startswith("query/"):
            return queries_fault(text, settings.queries, settings.max_query_words)
        return summary_fault(text, settings.min_words, settings.max_words)

    if settings.dry_run:
        print(f"corpus preferences: {estimate(endpoint, requests, ledger, validate)}")
        return
    outcome = ask(endpoint, requests, ledger, validate, "corpus preferences")
    with whole(told_path(workspace)) as draft, draft.open("w", encoding="utf-8") as file:
        for request, row in asked:
            if (answer := outcome.answers.get(request.key)) is not None:
                text = without_thinking(answer)
                said = {"queries": read_queries(text)} if row["kind"] == "query" else {"text": " ".join(text.split())}
                file.write(json.dumps({**row, **said, "teacher": settings.model}, ensure_ascii=False) + "\n")
    print(
        f"corpus preferences: {len(outcome.answers)} of {len(asked)} summaries and lists of queries; {outcome.asked} "
        f"answers paid for now, {outcome.prompt_tokens} prompt and {outcome.answer_tokens} answer tokens"
    )
    if len(outcome.failures) > settings.tolerate * len(asked):
        key, reason = next(iter(outcome.failures.items()))
        raise GreamError(
            f"corpus preferences: {len(outcome.failures)} of {len(asked)} have no answer ({key}: {reason}): run again "
            "to ask once more, or set --tolerate to the share that the template teacher may tell"
        )


def ledger_path(workspace: Workspace) -> Path:
    """Every answer that was paid for, rejected ones with their reasons."""
    return workspace.path("preferences.ledger.jsonl")


STAGE = Stage(
    name="corpus preferences",
    settings=PreferenceSettings,
    run=run,
    reads=lambda workspace, settings: [
        *corpus_reads(workspace),
        *(Path(path) for path in (settings.summary_template, settings.query_template) if path),
    ],
    writes=lambda workspace, settings: [] if settings.dry_run else [told_path(workspace)],
)
