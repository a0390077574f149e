"""What ``enrich`` and ``corpus preferences`` do."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.preferences import preferences_path
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.extras.ask import enrich, preferences
from gream_ext.extras.ask.answers import read_template, without_thinking
from gream_ext.extras.ask.batch import ask, estimate
from gream_ext.extras.ask.endpoint import Outcome, Request, Validate
from gream_ext.extras.ask.stages import EnrichSettings, PreferenceSettings, enrich_ledger, preferences_ledger
from gream_ext.workspace import Workspace


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
