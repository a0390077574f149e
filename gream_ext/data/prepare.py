"""From a source to the files of a workspace: histories (k-core, split) and items."""

import errno
import logging
import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from gream_ext.data.catalogue import catalogue_of
from gream_ext.data.checks import check_interactions
from gream_ext.data.filtering import k_core
from gream_ext.data.reviews import Rule, curated
from gream_ext.data.sources import Source, reader
from gream_ext.data.splitting import SHORTEST, leave_one_out, merge_repeats, split_by_time
from gream_ext.data.stages import PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.items.text_reviews import counter, review_lines
from gream_ext.workspace import INTERACTIONS, ITEMS, REVIEWS, Workspace, whole, write_json, write_table

log = logging.getLogger(__name__)


def prepare(workspace: Workspace, settings: PrepareSettings) -> None:
    """Write interactions.parquet, items.parquet, statistics.json and, where there are any, reviews.parquet, or none."""
    source = reader(settings.source).read(Path(settings.path), settings.ignored_fields)
    histories, before = histories_of(source, settings)
    wanted = histories["item_id"].unique(maintain_order=True).cast(pl.String).to_list()
    reviews = None
    if source.reviews and settings.reviews:
        rule = Rule(settings.reviews, settings.review_words, longest=max(1, settings.review_tokens))
        reviews = curated(source.reviews(), histories, rule)
    lines_of = partial(review_lines, tokens=settings.review_tokens, count=counter(settings.tokenizer))
    items, shown, untitled = catalogue_of(
        wanted, source.items, settings.text_characters, lines_of, reviews, source.repeated
    )
    if untitled:
        log.warning(
            "%d of %d items in %s have no title: their item_id stands for it", untitled, len(items), source.name
        )
    about = {"source": settings.source, "k": settings.k, "split": settings.split}
    figures = statistics(histories)
    counts: dict[str, Any] = {"items_without_title": untitled}
    tables = {workspace.interactions: (histories, INTERACTIONS), workspace.items: (items, ITEMS)}
    if reviews is not None:
        table = pl.DataFrame(shown, schema=list(REVIEWS.columns), infer_schema_length=None)
        tables[workspace.reviews] = (table, REVIEWS)
        counts |= {"reviews": len(table), "items_with_reviews": table["item_id"].n_unique()}
    for path in (*tables, workspace.statistics):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with ExitStack() as drafts:
        for path, (frame, schema) in tables.items():
            write_table(frame, drafts.enter_context(whole(path)), schema, about)
        summary = {**about, **figures, **counts, "before_k_core": before}
        write_json(drafts.enter_context(whole(workspace.statistics)), summary)
    if reviews is None:
        workspace.reviews.unlink(missing_ok=True)  # of an earlier run
    print(
        f"{figures['users']:,} users, {figures['items']:,} items, {figures['interactions']:,} interactions "
        f"(density {figures['density']:.5f}); before the {settings.k}-core {before['users']:,}, "
        f"{before['items']:,}, {before['interactions']:,}"
    )


def histories_of(source: Source, settings: PrepareSettings) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The split histories of the k-core (as `leave_one_out`), and the figures of what there was before it."""

    def rng() -> np.random.Generator | None:
        return np.random.default_rng(settings.seed) if settings.ties == "shuffle" else None

    interactions = check_interactions(source)
    if settings.repeats != "keep":
        interactions = merge_repeats(interactions, settings.repeats, rng())
    before = statistics(interactions)
    interactions = k_core(interactions, settings.k, settings.user_minimum)
    if not len(interactions):
        raise GreamError(
            f"{source.name}: nothing of {before['users']} users and {before['items']} items is left after the "
            f"{settings.k}-core: set --k lower"
        )
    if settings.split == "time":
        split = split_by_time(interactions, settings.held_out, rng())
        why = "have no interaction in the test period that follows another"
        if not (split["split"] == "train").any():
            raise GreamError(
                f"{source.name}: --split time leaves nothing to train on, so many interactions have the earliest "
                "timestamp: set --held-out lower, or --split leave-one-out"
            )
    else:
        split = leave_one_out(interactions, rng())
        why = f"have fewer than {SHORTEST} interactions and go into training only"
    tested = split.filter(pl.col("split") == "test")["user_id"].n_unique()
    if tested < (users := split["user_id"].n_unique()):
        log.warning("%s: %d of %d users %s", source.name, users - tested, users, why)
    return split, before


def statistics(interactions: pl.DataFrame) -> dict[str, Any]:
    """The figures of the paper's Table 1: users, items, interactions, density and history lengths.

    ``density`` is interactions / (users x items). Table 1 prints it as "sparsity", which is one less this.

    >>> statistics(pl.DataFrame({"user_id": ["a", "a", "b"], "item_id": ["x", "y", "x"]}))
    {'users': 2, 'items': 2, 'interactions': 3, 'density': 0.75, 'mean_length': 1.5, 'longest': 2}
    """
    lengths = interactions.group_by("user_id").len()["len"].to_numpy()
    items = interactions["item_id"].n_unique()
    return {
        "users": len(lengths),
        "items": items,
        "interactions": len(interactions),
        "density": len(interactions) / max(1, len(lengths) * items),
        "mean_length": len(interactions) / max(1, len(lengths)),
        "longest": int(lengths.max(initial=0)),
    }
