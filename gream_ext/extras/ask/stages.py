"""The stages ``enrich`` and ``corpus preferences``, whose text an LLM writes.

Both need an OpenAI-compatible endpoint. Every answer is kept in a ledger the moment it comes back, so an interruption
costs nothing; the wording of the requests stands in ``templates/``.
"""

from dataclasses import dataclass
from pathlib import Path

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.corpus.preferences import preferences_path
from gream_ext.corpus.prompts import WINDOW
from gream_ext.corpus.stages import corpus_reads
from gream_ext.errors import GreamError
from gream_ext.stage import Later, Stage, option
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
        60, least=1, help="longest text of an item that queries are written for, besides title and traits"
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


ENRICH = Stage(
    name="enrich",
    settings=EnrichSettings,
    run=Later("gream_ext.extras.ask.enrich:run"),
    reads=lambda workspace, settings: [workspace.items, *([Path(settings.template)] if settings.template else [])],
    writes=lambda workspace, settings: [] if settings.dry_run else [workspace.enriched],
)
PREFERENCES = Stage(
    name="corpus preferences",
    settings=PreferenceSettings,
    run=Later("gream_ext.extras.ask.preferences:run"),
    reads=lambda workspace, settings: [
        *corpus_reads(workspace),
        *(Path(path) for path in (settings.summary_template, settings.query_template) if path),
    ],
    writes=lambda workspace, settings: [] if settings.dry_run else [preferences_path(workspace)],
)
