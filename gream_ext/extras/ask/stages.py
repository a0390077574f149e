"""The stages ``enrich`` and ``corpus preferences``, whose text an LLM writes.

Both need an OpenAI-compatible endpoint. Every answer is kept in a ledger the moment it comes back, so an interruption
costs nothing; the wording of the requests stands in ``templates/``.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.corpus.preferences import preferences_path
from gream_ext.corpus.prompts import WINDOW
from gream_ext.corpus.stages import corpus_reads
from gream_ext.errors import GreamError
from gream_ext.extras.ask import enrich
from gream_ext.extras.ask.answers import read_template, without_thinking
from gream_ext.extras.ask.batch import ask, estimate
from gream_ext.extras.ask.endpoint import Outcome, Request, Validate
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace


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
class PreferenceSettings(AskSettings):
    """What the LLM writes."""

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


def enrich_ledger(workspace: Workspace) -> Path:
    """Every answer that was paid for, rejected ones and those of other models included."""
    return workspace.enriched.with_suffix(".ledger.jsonl")


def preferences_ledger(workspace: Workspace) -> Path:
    return workspace.path("preferences.ledger.jsonl")


def run_enrich(workspace: Workspace, settings: EnrichSettings) -> None:
    items = enrich.read_items(workspace, settings.limit)
    template, titles = enrich.item_template(settings.template), {item.item_id: item.title for item in items}
    requests = [
        enrich.enrichment_request(item, template, settings.min_words, settings.max_words, settings.max_characters)
        for item in items
        if item.text.strip()  # an item without any text has nothing to rewrite
    ]

    def validate(request: Request, answer: str) -> str | None:
        return enrich.description_fault(answer, titles[request.key], settings.min_words, settings.max_words)

    def write(outcome: Outcome) -> str:
        enrich.write_descriptions(workspace.enriched, items, outcome.answers)
        return f"{len(outcome.answers)} of {len(items)} items described"

    left = "keep their composite text"
    _ask_all("enrich", settings, requests, enrich_ledger(workspace), validate, write, len(items), "items", left)


def run_preferences(workspace: Workspace, settings: PreferenceSettings) -> None:
    from gream_ext.corpus.catalogue import Catalogue
    from gream_ext.data.histories import training_histories
    from gream_ext.extras.ask import preferences

    catalogue = Catalogue.load(workspace)
    asked: list[preferences.Asked] = []
    if settings.summaries:
        template = read_template("summary.txt", settings.summary_template, preferences.SUMMARY_SLOTS, ("history",))
        budget = {"min_words": str(settings.min_words), "max_words": str(settings.max_words)}
        asked += preferences.user_requests(
            catalogue, training_histories(workspace), template, settings.summaries, settings.window, budget,
            settings.limit, settings.seed,
        )  # fmt: skip
    if settings.queries:
        template = read_template("queries.txt", settings.query_template, preferences.QUERY_SLOTS, ("item",))
        budget = {"count": str(settings.queries), "max_words": str(settings.max_query_words)}
        asked += preferences.item_requests(catalogue, template, settings.item_words, budget, settings.limit)

    def validate(request: Request, answer: str) -> str | None:
        text = without_thinking(answer)
        if request.key.startswith("query/"):
            return preferences.queries_fault(text, settings.queries, settings.max_query_words)
        return preferences.summary_fault(text, settings.min_words, settings.max_words)

    def write(outcome: Outcome) -> str:
        preferences.write_preferences(preferences_path(workspace), asked, outcome.answers, settings.model)
        return f"{len(outcome.answers)} of {len(asked)} summaries and lists of queries"

    requests, left = [request for request, _ in asked], "are left to the template teacher"
    ledger = preferences_ledger(workspace)
    _ask_all("corpus preferences", settings, requests, ledger, validate, write, len(asked), "questions", left)


def _ask_all(
    label: str, settings: AskSettings, requests: Sequence[Request], ledger: Path, validate: Validate,
    write: Callable[[Outcome], str], total: int, things: str, left: str,
) -> None:  # fmt: skip
    """Ask, write what was answered, and say what is missing; `GreamError` where that is too much of ``total``."""
    if settings.dry_run:
        print(f"{label}: {estimate(settings, requests, ledger, validate)}")
        return
    outcome = ask(settings, requests, ledger, validate, label)
    print(f"{label}: {write(outcome)}; {outcome.cost}")
    missing = outcome.failures
    first = "; ".join(f"{key}: {reason}" for key, reason in list(missing.items())[:3])
    if len(missing) > settings.tolerate * total:
        raise GreamError(
            f"{label}: {len(missing)} of {total} {things} have no answer ({first}): run again to ask for them once "
            f"more, or set --tolerate to the share that may be missing; they then {left}"
        )
    if missing:
        print(f"{label}: {len(missing)} {things} {left} ({first})", file=sys.stderr)


ENRICH = Stage(
    name="enrich",
    settings=EnrichSettings,
    run=run_enrich,
    reads=lambda workspace, settings: [workspace.items, *([Path(settings.template)] if settings.template else [])],
    writes=lambda workspace, settings: [] if settings.dry_run else [workspace.enriched],
)
PREFERENCES = Stage(
    name="corpus preferences",
    settings=PreferenceSettings,
    run=run_preferences,
    reads=lambda workspace, settings: [
        *corpus_reads(workspace),
        *(Path(path) for path in (settings.summary_template, settings.query_template) if path),
    ],
    writes=lambda workspace, settings: [] if settings.dry_run else [preferences_path(workspace)],
)
