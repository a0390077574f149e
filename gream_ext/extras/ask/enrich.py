"""Enrichment: an LLM rewrites each item's composite text into a feature-rich description (section 4.1).

The stage needs an OpenAI-compatible endpoint. Every answer is kept in a ledger the moment it comes back, so an
interruption costs nothing; the wording of the request is in ``templates/enrich.txt``.
"""

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.extras.ask import Request, Validate, ask, estimate
from gream_ext.extras.ask.options import AskSettings, endpoint_of
from gream_ext.extras.ask.wording import (
    REFUSAL,
    Template,
    parse_template,
    request_of,
    template_source,
    without_thinking,
)
from gream_ext.stage import Stage, option
from gream_ext.words import split_words, terms
from gream_ext.workspace import ITEMS, Workspace, read_table, whole

SLOTS = ("text", "title", "min_words", "max_words")


@dataclass(frozen=True)
class EnrichSettings(AskSettings):
    base_url: str = option(help="address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1")
    model: str = option(help="name of the model at that endpoint")
    max_tokens: int = option(512, least=1, help="longest answer, in tokens")
    temperature: float = option(0.3, least=0, help="sampling temperature")
    limit: int | None = option(None, least=1, help="only the first so many items, to try before buying")
    min_words: int = option(30, least=0, help="a shorter description is rejected")
    max_words: int = option(300, least=1, help="a longer description is rejected")
    max_characters: int = option(8000, least=1, help="the composite text is cut there")
    tolerate: float = option(
        0.01, least=0, most=1, help="share of items that may stay without a description; more is an error"
    )
    template: str | None = option(None, help="a file in place of templates/enrich.txt, with [system] and [user] parts")


@dataclass(frozen=True)
class Item:
    item_id: str
    title: str
    text: str


def read_template(text: str, name: str = "templates/enrich.txt") -> Template:
    """The [system] and [user] parts of a template file."""
    return parse_template(text, name, SLOTS, needed=("text",))


def enrichment_request(item: Item, template: Template, settings: EnrichSettings) -> Request:
    """What the LLM is asked about one item."""
    slots = {
        "text": item.text[: settings.max_characters],
        "title": item.title,
        "min_words": str(settings.min_words),
        "max_words": str(settings.max_words),
    }
    return request_of(item.item_id, template, slots)


def clean(answer: str) -> str:
    """The description in an answer: without the thinking of a reasoning model, white space made single.

    >>> clean("<think>hm</think> A  fine\\nthing. ")
    'A fine thing.'
    """
    return " ".join(without_thinking(answer).split())


def fault(answer: str, title: str, min_words: int, max_words: int) -> str | None:
    """Why an answer is no description of the item, or None.

    >>> fault("A comedy.", "Velta", 3, 9)
    '2 words, fewer than 3'
    """
    text = clean(answer)
    said = split_words(text)
    if "<think>" in text or "</think>" in text:
        return "its thinking did not end"
    if "<|" in text:
        return "special tokens in it"
    if len(said) < min_words:
        return f"{len(said)} words, fewer than {min_words}"
    if len(said) > max_words:
        return f"{len(said)} words, more than {max_words}"
    if REFUSAL.search(text[:200]):
        return "a refusal"
    if len({word.lower() for word in said}) < len(said) / 5:
        return "the same words over and over"
    if sum(unicodedata.category(character)[0] in "LMZ" for character in text) < 0.7 * len(text):
        return "no prose"
    if (named := terms(title)) and not named & terms(text):
        return "no word of the title in it"
    return None


def enriched_descriptions(workspace: Workspace) -> dict[str, str]:
    """Item id to description, as far as the workspace has them; empty before `enrich` was run."""
    path = workspace.enriched
    if not path.exists():
        return {}
    descriptions: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            descriptions[row["item_id"]] = row["description"]
        except (ValueError, KeyError, TypeError):
            raise GreamError(f"{path}, line {number} is damaged: run `gream enrich` again") from None
    return descriptions


def ledger_path(workspace: Workspace) -> Path:
    """Every answer that was paid for, rejected ones and those of other models included."""
    return workspace.enriched.with_suffix(".ledger.jsonl")


def read_items(workspace: Workspace, limit: int | None) -> list[Item]:
    frame = read_table(workspace.items, ITEMS, "prepare").select("item_id", "title", "text")
    rows = frame.head(limit).iter_rows() if limit is not None else frame.iter_rows()
    return [Item(item_id, title or "", text or title or "") for item_id, title, text in rows]


def run(workspace: Workspace, settings: EnrichSettings) -> None:
    endpoint = endpoint_of(settings)
    items = read_items(workspace, settings.limit)
    template = _template(settings.template)
    # An item without any text has nothing to rewrite.
    requests = [enrichment_request(item, template, settings) for item in items if item.text.strip()]
    validate = _validator({item.item_id: item.title for item in items}, settings)
    if settings.dry_run:
        print(f"enrich: {estimate(endpoint, requests, ledger_path(workspace), validate)}")
        return
    outcome = ask(endpoint, requests, ledger_path(workspace), validate, "enrich")
    write_descriptions(workspace, items, outcome.answers)
    print(
        f"enrich: {len(outcome.answers)} of {len(items)} items described; {outcome.asked} answers paid for now, "
        f"{outcome.prompt_tokens} prompt and {outcome.answer_tokens} answer tokens"
    )
    report_failures(outcome.failures, len(items), settings.tolerate)


def write_descriptions(workspace: Workspace, items: Sequence[Item], answers: Mapping[str, str]) -> None:
    """One line an item that has a description, in the order of items.parquet."""
    with whole(workspace.enriched) as draft, draft.open("w", encoding="utf-8") as file:
        for item in items:
            if item.item_id in answers:
                row = {"item_id": item.item_id, "description": clean(answers[item.item_id])}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def report_failures(failures: Mapping[str, str], items: int, tolerate: float) -> None:
    """Say which items keep their composite text; `GreamError` when they are too many."""
    if not failures:
        return
    first = "; ".join(f"{item_id}: {reason}" for item_id, reason in list(failures.items())[:3])
    if len(failures) > tolerate * items:
        raise GreamError(
            f"enrich: {len(failures)} of {items} items have no description ({first}): run again to ask for them "
            "once more, or set --tolerate to the share that may keep its composite text"
        )
    print(f"enrich: {len(failures)} items keep their composite text ({first})", file=sys.stderr)


def _template(path: str | None) -> Template:
    shipped = files("gream_ext.extras.ask").joinpath("templates", "enrich.txt").read_text(encoding="utf-8")
    return read_template(template_source(shipped, path), path or "templates/enrich.txt")


def _validator(titles: Mapping[str, str], settings: EnrichSettings) -> Validate:
    def validate(request: Request, answer: str) -> str | None:
        return fault(answer, titles[request.key], settings.min_words, settings.max_words)

    return validate


STAGE = Stage(
    name="enrich",
    settings=EnrichSettings,
    run=run,
    reads=lambda workspace, settings: [workspace.items],
    writes=lambda workspace, settings: [] if settings.dry_run else [workspace.enriched],
)
