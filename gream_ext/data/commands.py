"""What ``prepare`` does."""

from pathlib import Path

from gream_ext.data.catalogue import TextRule
from gream_ext.data.prepare import HistoryRule, prepare
from gream_ext.data.reviews import Rule
from gream_ext.data.sources import reader
from gream_ext.data.stages import PrepareSettings
from gream_ext.items.text_tokens import counter
from gream_ext.workspace import Workspace


def run(workspace: Workspace, settings: PrepareSettings) -> None:
    """Write interactions.parquet, items.parquet, statistics.json and, where there are any, reviews.parquet."""
    prepare(
        workspace,
        reader(settings.source).read(Path(settings.path), settings.ignored_fields),
        HistoryRule(
            settings.k,
            settings.user_minimum,
            settings.repeats,
            settings.held_out if settings.split == "time" else None,
            settings.seed if settings.ties == "shuffle" else None,
        ),
        TextRule(settings.text_characters, settings.review_tokens, counter(settings.tokenizer)),
        Rule(settings.reviews, settings.review_words, longest=max(1, settings.review_tokens))
        if settings.reviews
        else None,
        {"source": settings.source, "k": settings.k, "split": settings.split},
    )
