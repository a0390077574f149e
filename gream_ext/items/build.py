"""Stage ``index build``: from vectors to identifiers, or from identifiers that somebody else made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.identifiers import tokens
from gream_ext.items.codebooks import save_codebooks
from gream_ext.items.conflict import ConflictSlot, add_conflict_slot
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import code_quality
from gream_ext.items.quality_table import quality_table
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table, write_json

ITEMS_PER_CENTROID = 40


@dataclass(frozen=True)
class BuildSettings:
    levels: int = option(4, least=1, help="Levels of RQ-KMeans, without the conflict slot.")
    codebook_size: int | None = option(
        None, least=1, help="Centroids of each level; left out, it fits the catalogue (256 from about 7,000 items on)."
    )
    conflict_slot: ConflictSlot = option(
        "always",
        help="Last level that tells items with equal codes apart: for all items, those that collide, or none.",
        choices=("always", "colliding", "none"),
    )
    balance: float | None = option(
        None,
        least=1,
        help="No centroid of a level gets more than this many times its even share of the items, e.g. 1.5.",
    )
    reassign: bool = option(
        False,
        help="Items with equal codes take other codes of the last level, as far as it has room; where it has none they "
        "get the conflict slot, or, with --conflict-slot none, the build stops.",
    )
    slot_size: int | None = option(None, least=1, help="Codes of the conflict slot; left out, twice what is needed.")
    iterations: int = option(25, least=1, help="Iterations of k-means.")
    restarts: int = option(1, least=1, help="Runs of k-means of which the best is kept.")
    start: Literal["ladder", "components"] = option(
        "ladder", help="Where k-means starts: evenly used codes (ladder), or a lower quantisation error (components)."
    )
    seed: int = option(0, help="Same seed, same index.")
    from_file: str | None = option(
        None, help="JSONL[.gz] with item_id and a list of codes or tokens: take these codes instead of clustering."
    )
    from_field: str | None = option(None, help="Field of --from-file with the codes, where it has several.")


def run(workspace: Workspace, settings: BuildSettings) -> None:
    """Write item_index.parquet, index_quality.json and, unless the codes were brought, codebooks.safetensors."""
    item_ids = read_table(workspace.items, ITEMS, "prepare")["item_id"].to_list()
    # Sorted, so that the order of the items in their file changes nothing but the order of the rows.
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    if settings.from_file is not None:
        made = _brought(settings, [item_ids[row] for row in order])
    else:
        made = _clustered(settings, read_embeddings(workspace, len(item_ids))[order])
    slotted, all_sizes = add_conflict_slot(made.codes, made.sizes, settings.conflict_slot, settings.slot_size)
    index = ItemIndex(tuple(item_ids), slotted[np.argsort(order)], all_sizes)
    quality = code_quality(made.raw, made.sizes, made.errors)
    if made.reassigned is not None:
        quality["reassigned"] = made.reassigned
    _write(workspace, index, made.codebooks, quality, settings)
    print(quality_table(quality))
    if made.reassigned is not None:
        print(reassigned_line(made.reassigned))


@dataclass(frozen=True)
class _Made:
    """Codes int32 [items, levels] before the conflict slot, and what is known of how they came about."""

    codes: np.ndarray
    raw: np.ndarray
    """The codes before any of the last level were changed."""
    sizes: list[int]
    codebooks: list[np.ndarray]
    errors: list[float] | None
    reassigned: dict[str, Any] | None = None


def _brought(settings: BuildSettings, item_ids: Sequence[str]) -> _Made:
    from gream_ext.items.codes_file import read_codes

    if settings.balance is not None or settings.reassign:
        raise GreamError("--balance and --reassign need vectors: they do not go with --from-file")
    codes = read_codes(Path(str(settings.from_file)), settings.from_field, item_ids)
    return _Made(codes, codes, [settings.codebook_size or int(size) for size in codes.max(axis=0) + 1], [], None)


def _clustered(settings: BuildSettings, vectors: np.ndarray) -> _Made:
    from gream_ext.items.reassign import reassign_last_level
    from gream_ext.items.rq_kmeans import rq_kmeans

    sizes = [settings.codebook_size or fitting_codebook_size(len(vectors))] * settings.levels
    made = rq_kmeans(
        vectors, sizes, settings.iterations, settings.restarts, settings.seed, settings.balance, settings.start
    )
    if not settings.reassign:
        return _Made(made.codes, made.codes, sizes, made.codebooks, made.errors)
    again = reassign_last_level(vectors, made.codes, made.codebooks)
    told = {"moved": again.moved, "no_room": [{"codes": list(codes), "items": items} for codes, items in again.crowded]}
    if again.crowded and settings.conflict_slot == "none":
        raise GreamError(f"{reassigned_line(told)}: set --conflict-slot colliding, or --codebook-size higher")
    return _Made(again.codes, made.codes, sizes, made.codebooks, made.errors, told)


def reassigned_line(told: dict[str, Any]) -> str:
    """What last-level reassignment did, in a line."""
    line = f"{told['moved']:,} items moved to another code of the last level"
    if not told["no_room"]:
        return f"{line}; no two have equal codes now"
    first = told["no_room"][0]
    return (
        f"{line}; it has no room below {len(told['no_room']):,} prefixes, the first "
        f"{''.join(tokens(first['codes'])) or 'the empty one'} with {first['items']:,} items"
    )


def fitting_codebook_size(items: int) -> int:
    """A power of two from 4 to 256 that suits so many items: about one centroid for every 40, never more than items.

    >>> [fitting_codebook_size(items) for items in (2, 80, 1349, 12101)]
    [2, 4, 32, 256]
    """
    return min(256, items, max(4, 1 << round(math.log2(max(1, items) / ITEMS_PER_CENTROID))) if items > 160 else 4)


def read_embeddings(workspace: Workspace, items: int) -> np.ndarray:
    """The vectors of the items, mapped from the file; `GreamError` when they are not of these items."""
    path = workspace.embeddings
    try:
        vectors: np.ndarray = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise GreamError(f"{path} is missing: run `gream embed` first") from None
    except (ValueError, EOFError, OSError) as error:
        raise GreamError(f"{path} is damaged ({error}): run `gream embed` again") from None
    if vectors.ndim != 2 or len(vectors) != items:
        raise GreamError(f"{path} has shape {vectors.shape}, but there are {items} items: run `gream embed` again")
    return vectors


def _write(
    workspace: Workspace,
    index: ItemIndex,
    codebooks: list[np.ndarray],
    quality: dict[str, Any],
    settings: BuildSettings,
) -> None:
    about: dict[str, Any] = {
        "conflict_slot": settings.conflict_slot,
        "seed": settings.seed,
        "from_file": settings.from_file and Path(settings.from_file).name,
        "reassign": settings.reassign,
        "balance": settings.balance,
        "start": settings.start,
    }
    if codebooks:
        about["codebooks_sha256"] = save_codebooks(workspace.codebooks, codebooks)
    else:
        workspace.codebooks.unlink(missing_ok=True)  # those of an index that is no more
    write_json(workspace.path("index_quality.json"), quality)
    index.save(workspace.item_index, about)


def _reads(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    return (workspace.items, Path(settings.from_file) if settings.from_file else workspace.embeddings)


def _writes(workspace: Workspace, settings: BuildSettings) -> Sequence[Path]:
    files = (workspace.item_index, workspace.path("index_quality.json"))
    return files if settings.from_file else (*files, workspace.codebooks)


STAGE = Stage(name="index build", settings=BuildSettings, run=run, reads=_reads, writes=_writes)
