"""An LLM sums up users' preferences and writes search queries for items (section 4.1).

Optional: without it ``corpus align`` has the template teacher write them.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.extras.ask.answers import Template, common_fault, one_line, request_of, without_thinking
from gream_ext.extras.ask.endpoint import Request
from gream_ext.extras.ask.teacher_llm import described, numbered
from gream_ext.words import word_count
from gream_ext.workspace import whole

SUMMARY_SLOTS = ("history", "min_words", "max_words")
QUERY_SLOTS = ("item", "count", "max_words")
Asked = tuple[Request, dict[str, Any]]
"""A question, and the row of ``preferences.jsonl`` that its answer completes."""


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
    catalogue: Catalogue, histories: Mapping[str, Sequence[str]], template: Template, each: int, window: int,
    budget: Mapping[str, str], limit: int | None = None, seed: int = 0,
) -> Iterator[Asked]:  # fmt: skip
    """``each`` summaries of a user, of different parts of the training history."""
    for user in [user for user, history in histories.items() if len(history) > 1][:limit]:
        history = histories[user]
        positions = Random(f"preferences/{seed}/{user}").sample(range(1, len(history) + 1), k=len(history))
        for position in sorted(positions[:each]):
            items = catalogue.get(history[max(0, position - window) : position])
            row = {"kind": "summary", "user_id": user, "place": position, "shown": len(items)}
            yield request_of(f"summary/{user}/{position}", template, {"history": numbered(items, 16), **budget}), row


def item_requests(
    catalogue: Catalogue, template: Template, words: int, budget: Mapping[str, str], limit: int | None = None
) -> Iterator[Asked]:
    """A question for each item that has a title."""
    for item in catalogue.having("title")[:limit]:
        slots = {"item": described(item, words), **budget}
        yield request_of(f"query/{item.item_id}", template, slots), {"kind": "query", "item_id": item.item_id}


def write_preferences(path: Path, asked: Iterable[Asked], answers: Mapping[str, str], teacher: str) -> None:
    """One line for each question that has an answer."""
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for request, row in asked:
            if (answer := answers.get(request.key)) is not None:
                queries = row["kind"] == "query"
                said = {"queries": read_queries(without_thinking(answer))} if queries else {"text": one_line(answer)}
                file.write(json.dumps({**row, **said, "teacher": teacher}, ensure_ascii=False) + "\n")
