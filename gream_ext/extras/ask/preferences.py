"""An LLM sums up users' preferences and writes search queries for items (section 4.1).

Optional: without it ``corpus align`` has the template teacher write them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.preferences import preferences_path
from gream_ext.data.histories import training_histories
from gream_ext.extras.ask.answers import common_fault, one_line, read_template, request_of, without_thinking
from gream_ext.extras.ask.batch import ask_all
from gream_ext.extras.ask.endpoint import Outcome, Request
from gream_ext.extras.ask.stages import PreferenceSettings, preferences_ledger
from gream_ext.extras.ask.teacher_llm import described, numbered
from gream_ext.words import word_count
from gream_ext.workspace import Workspace, whole

SUMMARY_SLOTS = ("history", "min_words", "max_words")
QUERY_SLOTS = ("item", "count", "max_words")
Asked = tuple[Request, dict[str, Any]]
"""A question, and the row of ``preferences.jsonl`` that its answer completes."""


def run(workspace: Workspace, settings: PreferenceSettings) -> None:
    catalogue = Catalogue.load(workspace)
    asked = [*user_requests(workspace, catalogue, settings), *item_requests(catalogue, settings)]

    def validate(request: Request, answer: str) -> str | None:
        text = without_thinking(answer)
        if request.key.startswith("query/"):
            return queries_fault(text, settings.queries, settings.max_query_words)
        return summary_fault(text, settings.min_words, settings.max_words)

    def write(outcome: Outcome) -> str:
        write_preferences(preferences_path(workspace), asked, outcome.answers, settings.model)
        return f"{len(outcome.answers)} of {len(asked)} summaries and lists of queries"

    requests, left = [request for request, _ in asked], "are left to the template teacher"
    ledger = preferences_ledger(workspace)
    ask_all("corpus preferences", settings, requests, ledger, validate, write, len(asked), "questions", left)


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


def user_requests(workspace: Workspace, catalogue: Catalogue, settings: PreferenceSettings) -> Iterator[Asked]:
    """Summaries of each user, of different parts of the training history."""
    template = read_template("summary.txt", settings.summary_template, SUMMARY_SLOTS, ("history",))
    budget = {"min_words": str(settings.min_words), "max_words": str(settings.max_words)}
    histories = {user: history for user, history in training_histories(workspace).items() if len(history) > 1}
    for user, history in list(histories.items())[: settings.limit if settings.summaries else 0]:
        positions = Random(f"preferences/{settings.seed}/{user}").sample(range(1, len(history) + 1), k=len(history))
        for position in sorted(positions[: settings.summaries]):
            items = catalogue.get(history[max(0, position - settings.window) : position])
            row = {"kind": "summary", "user_id": user, "place": position, "shown": len(items)}
            yield request_of(f"summary/{user}/{position}", template, {"history": numbered(items, 16), **budget}), row


def item_requests(catalogue: Catalogue, settings: PreferenceSettings) -> Iterator[Asked]:
    """A question for each item that has a title."""
    template = read_template("queries.txt", settings.query_template, QUERY_SLOTS, ("item",))
    budget = {"count": str(settings.queries), "max_words": str(settings.max_query_words)}
    for item in catalogue.having("title")[: settings.limit if settings.queries else 0]:
        slots = {"item": described(item, settings.item_words), **budget}
        yield request_of(f"query/{item.item_id}", template, slots), {"kind": "query", "item_id": item.item_id}


def write_preferences(path: Path, asked: Iterable[Asked], answers: Mapping[str, str], teacher: str) -> None:
    """One line for each question that has an answer."""
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for request, row in asked:
            if (answer := answers.get(request.key)) is not None:
                queries = row["kind"] == "query"
                said = {"queries": read_queries(without_thinking(answer))} if queries else {"text": one_line(answer)}
                file.write(json.dumps({**row, **said, "teacher": teacher}, ensure_ascii=False) + "\n")
