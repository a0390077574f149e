"""Stage ``prepare``: from a source to histories and items (k-core, leave-one-out)."""

import errno
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.catalogue import Catalogue, TextRule, catalogue_of
from gream_ext.data.checks import check_interactions
from gream_ext.data.filtering import k_core
from gream_ext.data.ids import compact
from gream_ext.data.reviews import Rule, curated
from gream_ext.data.sources import READERS, Source, reader
from gream_ext.data.splitting import SHORTEST, leave_one_out, short_user
from gream_ext.data.statistics import statistics
from gream_ext.errors import GreamError
from gream_ext.items.text_tokens import counter
from gream_ext.stage import Stage, option
from gream_ext.workspace import INTERACTIONS, ITEMS, REVIEWS, Workspace, whole, write_json, write_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareSettings:
    path: str = option(help="Folder of the source, or one file of it: the recbole wheel, a file of Amazon reviews.")
    source: str = option("table", help="What stands at --path.", choices=tuple(READERS))
    k: int = option(5, least=0, help="Users and items keep at least this many interactions (k-core); 0 or 1 keeps all.")
    ignored_fields: list[str] = option(
        ["asin", "url", "image", "images", "imUrl"], help="Fields of the items that are not text about them."
    )
    text_characters: int = option(
        2000, least=1, help="Longest composite text of an item, in characters, without its reviews."
    )
    reviews: int = option(4, least=0, help="Reviews in an item's text, where the source has any; 0 takes none.")
    review_tokens: int = option(256, least=0, help="Tokens that the reviews of an item may take together.")
    review_words: int = option(8, least=0, help="A review of fewer words is passed over.")
    tokenizer: str | None = option(None, help="Folder of the tokenizer that counts these tokens; none: an estimate.")


def run(workspace: Workspace, settings: PrepareSettings) -> None:
    """Write interactions.parquet, items.parquet, statistics.json and, where there are any, reviews.parquet."""
    rule = TextRule(settings.text_characters, settings.review_tokens, counter(settings.tokenizer))
    source = reader(settings.source).read(Path(settings.path), settings.ignored_fields)
    histories, before = histories_of(source, settings.k)
    catalogue = described(source, histories, settings, rule)
    if catalogue.untitled:
        log.warning(
            "%d of %d items in %s have no title: their item_id stands for it",
            *(catalogue.untitled, len(catalogue.items), source.name),
        )
    about: dict[str, Any] = {"source": settings.source, "k": settings.k}
    figures = statistics(histories)
    told: dict[str, Any] = {"items_without_title": catalogue.untitled}
    tables = {workspace.interactions: (histories, INTERACTIONS), workspace.items: (catalogue.items, ITEMS)}
    if _has_reviews(settings):
        reviews = pl.DataFrame(catalogue.reviews, schema=list(REVIEWS.columns), infer_schema_length=None)
        tables[workspace.reviews] = (reviews, REVIEWS)
        told |= {"reviews": len(reviews), "items_with_reviews": reviews["item_id"].n_unique()}
    with whole_files([*tables, workspace.statistics]) as (*drafts, summary):
        for (table, schema), draft in zip(tables.values(), drafts, strict=True):
            write_table(table, draft, schema, about)
        write_json(summary, {**about, **figures, **told, "before_k_core": before})
    if workspace.reviews not in tables:
        workspace.reviews.unlink(missing_ok=True)  # of an earlier run
    print(
        f"{figures['users']:,} users, {figures['items']:,} items, {figures['interactions']:,} interactions "
        f"(sparsity {figures['sparsity']:.5f}); before the {settings.k}-core {before['users']:,}, "
        f"{before['items']:,}, {before['interactions']:,}"
    )


@contextmanager
def whole_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Write several files all or none, by a draft each (see `whole`)."""
    for path in paths:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with ExitStack() as drafts:
        yield [drafts.enter_context(whole(path)) for path in paths]


def histories_of(source: Source, k: int) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The split histories of the k-core (as `leave_one_out`), and the figures of what there was before it."""
    everything = check_interactions(compact(source.interactions()), source)
    before = statistics(everything)
    interactions = k_core(everything, k)
    del everything
    if not len(interactions):
        raise GreamError(
            f"{source.name}: nothing of {before['users']} users and {before['items']} items is left after the "
            f"{k}-core: set --k lower"
        )
    if k < SHORTEST and (short := short_user(interactions)):
        row, user, count = short
        where = source.row_name(row) if k <= 1 and source.repeated == "refuse" else source.name
        raise GreamError(
            f"{where}: user {user!r} has {count} interactions, leave-one-out needs {SHORTEST}: "
            "drop such users or set --k 3"
        )
    return leave_one_out(interactions), before


def described(source: Source, histories: pl.DataFrame, settings: PrepareSettings, rule: TextRule) -> Catalogue:
    """The items of the histories, with reviews of training interactions where the source has reviews."""
    reviews = {}
    if source.reviews and settings.reviews:
        curation = Rule(settings.reviews, settings.review_words, longest=max(1, settings.review_tokens))
        reviews = curated(source.reviews(), histories, curation)
    wanted = histories["item_id"].unique(maintain_order=True).cast(pl.String).to_list()
    return catalogue_of(wanted, source.items, rule, reviews, source.repeated)


def _reads(workspace: Workspace, settings: PrepareSettings) -> Sequence[Path]:
    return reader(settings.source).files(Path(settings.path))


def _writes(workspace: Workspace, settings: PrepareSettings) -> Sequence[Path]:
    reviews = [workspace.reviews] if _has_reviews(settings) else []
    return [workspace.interactions, workspace.items, workspace.statistics, *reviews]


def _has_reviews(settings: PrepareSettings) -> bool:
    return settings.reviews > 0 and reader(settings.source).has_reviews(Path(settings.path))


STAGE = Stage(name="prepare", settings=PrepareSettings, run=run, reads=_reads, writes=_writes)
