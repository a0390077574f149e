"""Enrichment: an LLM rewrites each item's composite text into a feature-rich description (section 4.1)."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gream_ext.extras.ask.answers import Template, common_fault, one_line, read_template, request_of
from gream_ext.extras.ask.batch import ask_all
from gream_ext.extras.ask.endpoint import Outcome, Request
from gream_ext.extras.ask.stages import EnrichSettings, enrich_ledger
from gream_ext.words import terms, word_count
from gream_ext.workspace import ITEMS, Workspace, read_table, whole

SLOTS = ("text", "title", "min_words", "max_words")


class Item(NamedTuple):
    item_id: str
    title: str
    text: str


def run(workspace: Workspace, settings: EnrichSettings) -> None:
    items = read_items(workspace, settings.limit)
    template, titles = item_template(settings.template), {item.item_id: item.title for item in items}
    requests = [
        enrichment_request(item, template, settings.min_words, settings.max_words, settings.max_characters)
        for item in items
        if item.text.strip()  # an item without any text has nothing to rewrite
    ]

    def validate(request: Request, answer: str) -> str | None:
        return description_fault(answer, titles[request.key], settings.min_words, settings.max_words)

    def write(outcome: Outcome) -> str:
        write_descriptions(workspace.enriched, items, outcome.answers)
        return f"{len(outcome.answers)} of {len(items)} items described"

    left = "keep their composite text"
    ask_all("enrich", settings, requests, enrich_ledger(workspace), validate, write, len(items), "items", left)


def read_items(workspace: Workspace, limit: int | None = None) -> list[Item]:
    """The first ``limit`` items, or all, with what there is to rewrite of each."""
    rows = read_table(workspace.items, ITEMS, "prepare").select("item_id", "title", "text").head(limit or 2**31)
    return [Item(item_id, title or "", text or title or "") for item_id, title, text in rows.iter_rows()]


def item_template(path: str | None = None) -> Template:
    return read_template("enrich.txt", path, SLOTS, needed=("text",))


def enrichment_request(
    item: Item, template: Template, min_words: int = 30, max_words: int = 300, max_characters: int = 8000
) -> Request:
    """What the LLM is asked about one item."""
    words = {"min_words": str(min_words), "max_words": str(max_words)}
    return request_of(item.item_id, template, {"text": item.text[:max_characters], "title": item.title, **words})


def description_fault(answer: str, title: str, min_words: int, max_words: int) -> str | None:
    """Why an answer is no description of the item, or None.

    >>> description_fault("A comedy.", "Velta", 3, 9)
    '2 words, fewer than 3'
    """
    text = one_line(answer)
    words = word_count(text)
    if words < min_words:
        return f"{words} words, fewer than {min_words}"
    if words > max_words:
        return f"{words} words, more than {max_words}"
    if (common := common_fault(text)) is not None:
        return common
    if sum(unicodedata.category(character)[0] in "LMZ" for character in text) < 0.7 * len(text):
        return "no prose"
    if (named := terms(title)) and not named & terms(text):
        return "no word of the title in it"
    return None


def write_descriptions(path: Path, items: Sequence[Item], answers: Mapping[str, str]) -> None:
    """One line an item that has a description, in the order of items.parquet."""
    with whole(path) as draft, draft.open("w", encoding="utf-8") as file:
        for item in items:
            if item.item_id in answers:
                row = {"item_id": item.item_id, "description": one_line(answers[item.item_id])}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
