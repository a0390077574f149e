"""Stage ``prepare``: from a source to histories and items (k-core, leave-one-out)."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.checks import check_interactions
from gream_ext.data.filtering import k_core
from gream_ext.data.ids import compact
from gream_ext.data.records import ItemRecord
from gream_ext.data.sources import READERS, reader
from gream_ext.data.splitting import SHORTEST, leave_one_out, short_user
from gream_ext.data.statistics import statistics
from gream_ext.errors import GreamError
from gream_ext.items.text import composite_text
from gream_ext.stage import Stage, option
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, write_json, write_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PrepareSettings:
    path: str = option(help="Folder of the table, or the recbole wheel or a folder with MovieLens-100K.")
    source: str = option("table", help="What stands at --path.", choices=tuple(READERS))
    k: int = option(5, help="Users and items keep at least this many interactions (k-core); 0 or 1 keeps all.")
    ignored_fields: list[str] = option(
        ["asin", "url", "image", "images", "imUrl"], help="Fields of the items that are not text about them."
    )
    text_characters: int = option(2000, help="Longest composite text of an item, in characters.")


def run(workspace: Workspace, settings: PrepareSettings) -> None:
    """Write interactions.parquet, items.parquet and statistics.json."""
    if settings.k < 0 or settings.text_characters < 1:
        raise GreamError("--k must not be below 0 and --text-characters not below 1")
    source = reader(settings.source).read(Path(settings.path), settings.ignored_fields)
    source = replace(source, interactions=compact(source.interactions))
    check_interactions(source)
    items, name, row_name, everything = source.items, source.name, source.row_name, source.interactions
    del source
    before = statistics(everything)
    interactions = k_core(everything, settings.k)
    del everything
    if not len(interactions):
        raise GreamError(
            f"{name}: nothing of {before['users']} users and {before['items']} items is left after the "
            f"{settings.k}-core: set --k lower"
        )
    if settings.k < SHORTEST and (short := short_user(interactions)):
        row, user, count = short
        where = row_name(row) if settings.k <= 1 else name
        raise GreamError(
            f"{where}: user {user!r} has {count} interactions, leave-one-out needs {SHORTEST}: "
            "drop such users or set --k 3"
        )
    histories = leave_one_out(interactions)
    del interactions
    catalogue, untitled = catalogue_of(
        histories["item_id"].unique(maintain_order=True).cast(pl.String), items, settings.text_characters
    )
    if untitled:
        log.warning("%d of %d items in %s have no title: their item_id stands for it", untitled, len(catalogue), name)
    about: dict[str, Any] = {"source": settings.source, "k": settings.k}
    write_table(histories, workspace.interactions, INTERACTIONS, about)
    write_table(catalogue, workspace.items, ITEMS, about)
    figures = statistics(histories)
    write_json(workspace.statistics, {**about, **figures, "items_without_title": untitled, "before_k_core": before})
    print(
        f"{figures['users']:,} users, {figures['items']:,} items, {figures['interactions']:,} interactions "
        f"(sparsity {figures['sparsity']:.5f}); before the {settings.k}-core {before['users']:,}, "
        f"{before['items']:,}, {before['interactions']:,}"
    )


def catalogue_of(
    wanted: pl.Series, items: Iterable[tuple[str, ItemRecord]], characters: int
) -> tuple[pl.DataFrame, int]:
    """The items in ``wanted`` with their composite text, and how many of them lack a title.

    Items stand in the order of their file, then those that are not in it in the order of ``wanted``. An item
    without a title gets its item_id for one. `GreamError` when an item stands in the file twice.
    """
    missing = dict.fromkeys(wanted.to_list())
    seen: set[str] = set()
    rows: list[dict[str, Any]] = []
    for where, item in items:
        if item["item_id"] in seen:
            raise GreamError(f"{where}: item {item['item_id']!r} stands in the file twice: delete one")
        seen.add(item["item_id"])
        if item["item_id"] in missing:
            del missing[item["item_id"]]
            rows.append(_row(item, characters))
    for item_id in missing:
        bare = ItemRecord(item_id=item_id, title=None, brand=None, categories=[], description=None, attributes=[])
        rows.append(_row(bare, characters))
    untitled = sum(row.pop("untitled") for row in rows)
    return pl.DataFrame(rows, infer_schema_length=None), untitled


def _row(item: ItemRecord, characters: int) -> dict[str, Any]:
    text = composite_text(item, characters)
    return {
        **item,
        "title": item["title"] or item["item_id"],
        "text": text or item["item_id"],
        "untitled": not item["title"],
    }


def _reads(workspace: Workspace, settings: PrepareSettings) -> Sequence[Path]:
    return reader(settings.source).files(Path(settings.path))


def _writes(workspace: Workspace, settings: PrepareSettings) -> Sequence[Path]:
    return workspace.interactions, workspace.items, workspace.statistics


STAGE = Stage(name="prepare", settings=PrepareSettings, run=run, reads=_reads, writes=_writes)
