"""From a source to the files of a workspace: histories (k-core, split) and items."""

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gream_ext.data.catalogue import TextRule, catalogue_of
from gream_ext.data.checks import check_interactions
from gream_ext.data.filtering import k_core
from gream_ext.data.ids import compact
from gream_ext.data.reviews import Rule, curated
from gream_ext.data.sources import Source
from gream_ext.data.splitting import SHORTEST, leave_one_out, merge_repeats, split_by_time
from gream_ext.data.statistics import statistics
from gream_ext.errors import GreamError
from gream_ext.workspace import INTERACTIONS, ITEMS, REVIEWS, Workspace, whole, write_json, write_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HistoryRule:
    """Which interactions stay, and which of them are held out."""

    k: int
    user_least: int | None = None
    repeats: str = "keep"
    """``first`` or ``last`` of a user's interactions with one item, or ``keep`` for all."""
    held_out: float | None = None
    """The share after the moment of a split by time; None: leave-one-out."""
    ties: int | None = None
    """The seed that draws the order of what happened at the same time; None: as in the file."""

    @property
    def rng(self) -> np.random.Generator | None:
        return None if self.ties is None else np.random.default_rng(self.ties)


def prepare(
    workspace: Workspace,
    source: Source,
    rule: HistoryRule,
    text: TextRule,
    curation: Rule | None,
    about: Mapping[str, Any],
) -> None:
    """Write interactions.parquet, items.parquet, statistics.json and, with ``curation`` and reviews, reviews.parquet.

    ``about`` goes into the files' metadata.
    """
    histories, before = histories_of(source, rule)
    wanted = histories["item_id"].unique(maintain_order=True).cast(pl.String).to_list()
    reviews = curated(source.reviews(), histories, curation) if source.reviews and curation else None
    catalogue = catalogue_of(wanted, source.items, text, reviews, source.repeated)
    if catalogue.untitled:
        log.warning(
            "%d of %d items in %s have no title: their item_id stands for it",
            *(catalogue.untitled, len(catalogue.items), source.name),
        )
    figures = statistics(histories)
    counts: dict[str, Any] = {"items_without_title": catalogue.untitled}
    tables = {workspace.interactions: (histories, INTERACTIONS), workspace.items: (catalogue.items, ITEMS)}
    if reviews is not None:
        table = pl.DataFrame(catalogue.reviews, schema=list(REVIEWS.columns), infer_schema_length=None)
        tables[workspace.reviews] = (table, REVIEWS)
        counts |= {"reviews": len(table), "items_with_reviews": table["item_id"].n_unique()}
    with whole_files([*tables, workspace.statistics]) as (*drafts, summary):
        for (table, schema), draft in zip(tables.values(), drafts, strict=True):
            write_table(table, draft, schema, about)
        write_json(summary, {**about, **figures, **counts, "before_k_core": before})
    if workspace.reviews not in tables:
        workspace.reviews.unlink(missing_ok=True)  # of an earlier run
    print(
        f"{figures['users']:,} users, {figures['items']:,} items, {figures['interactions']:,} interactions "
        f"(density {figures['density']:.5f}); before the {rule.k}-core {before['users']:,}, "
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


def histories_of(source: Source, rule: HistoryRule) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The split histories of the k-core (as `leave_one_out`), and the figures of what there was before it."""
    everything = check_interactions(compact(source.interactions()), source)
    if rule.repeats != "keep":
        everything = merge_repeats(everything, rule.repeats, rule.rng)
    before = statistics(everything)
    interactions = k_core(everything, rule.k, rule.user_least)
    del everything
    if not len(interactions):
        raise GreamError(
            f"{source.name}: nothing of {before['users']} users and {before['items']} items is left after the "
            f"{rule.k}-core: set --k lower"
        )
    if rule.held_out is None:
        split = leave_one_out(interactions, rule.rng)
    else:
        split = split_by_time(interactions, rule.held_out, rule.rng)
    tested = split.filter(pl.col("split") == "test")["user_id"].n_unique()
    if tested < (users := split["user_id"].n_unique()):
        why = f"have fewer than {SHORTEST} interactions" if rule.held_out is None else "have nothing to be tested on"
        log.warning("%s: %d of %d users %s and go into training only", source.name, users - tested, users, why)
    return split, before
