"""From vectors to identifiers, or from codes that somebody else made."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.identifiers import tokens
from gream_ext.items.codebooks import save_codebooks
from gream_ext.items.collaborative import beside, collaborative_vectors
from gream_ext.items.conflict import ConflictSlot, add_conflict_slot
from gream_ext.items.index import ItemIndex
from gream_ext.items.kmeans import Start
from gream_ext.items.measures import code_quality
from gream_ext.items.quality_table import quality_table
from gream_ext.items.reassign import reassign_last_level
from gream_ext.items.rq_kmeans import rq_kmeans
from gream_ext.workspace import Workspace, write_json

ITEMS_PER_CENTROID = 40


@dataclass(frozen=True)
class Codes:
    """Codes int32 [items, levels] before the conflict slot, and what is known of how they came about."""

    codes: np.ndarray
    raw: np.ndarray
    """The codes before any of the last level were changed."""
    sizes: Sequence[int]
    codebooks: Sequence[np.ndarray] = ()
    errors: Sequence[float] | None = None
    reassigned: Mapping[str, Any] | None = None


def with_collaborative(
    workspace: Workspace, vectors: np.ndarray, item_ids: Sequence[str], weight: float, seed: int
) -> np.ndarray:
    """The vectors of ``item_ids`` with those of training histories beside them, see `gream_ext.items.collaborative`."""
    return beside(vectors, collaborative_vectors(training_histories(workspace).values(), item_ids, seed), weight)


def foreign_codes(codes: np.ndarray, codebook_size: int | None) -> Codes:
    """Codes that were read from a file; without a size each level's is the least that holds them."""
    return Codes(codes, codes, [codebook_size or int(size) for size in codes.max(axis=0) + 1])


def clustered_codes(
    vectors: np.ndarray,
    levels: int,
    codebook_size: int | None = None,
    iterations: int = 25,
    restarts: int = 1,
    seed: int = 0,
    balance: float | None = None,
    start: Start = "ladder",
    reassign: bool = False,
) -> Codes:
    """RQ-KMeans (`rq_kmeans`), then last-level reassignment where it is wanted; a size of None fits the catalogue."""
    sizes = [codebook_size or fitting_codebook_size(len(vectors))] * levels
    made = rq_kmeans(vectors, sizes, iterations, restarts, seed, balance, start)
    if not reassign:
        return Codes(made.codes, made.codes, sizes, made.codebooks, made.errors)
    again = reassign_last_level(vectors, made.codes, made.codebooks)
    crowded = [{"codes": list(codes), "items": items} for codes, items in again.crowded]
    summary = {"moved": again.moved, "no_room": crowded}
    return Codes(again.codes, made.codes, sizes, made.codebooks, made.errors, summary)


def write_index(
    workspace: Workspace,
    item_ids: Sequence[str],
    made: Codes,
    slot: ConflictSlot,
    slot_size: int | None,
    metadata: Mapping[str, Any],
) -> None:
    """Write item_index.parquet, index_quality.json and, where there are codebooks, codebooks.safetensors.

    The codes of ``made`` are in the order of the ``item_ids`` when these are sorted.
    """
    if made.reassigned is not None and made.reassigned["no_room"] and slot == "none":
        line = reassigned_line(made.reassigned)
        raise GreamError(f"{line}: set --conflict-slot colliding, or --codebook-size higher")
    slotted, sizes = add_conflict_slot(made.codes, made.sizes, slot, slot_size)
    index = ItemIndex(tuple(item_ids), slotted[np.argsort(sorted_rows(item_ids))], sizes)
    quality = code_quality(made.raw, made.sizes, made.errors)
    if made.reassigned is not None:
        quality["reassigned"] = made.reassigned
    about = dict(metadata)
    if made.codebooks:
        about["codebooks_sha256"] = save_codebooks(workspace.codebooks, made.codebooks)
    else:
        workspace.codebooks.unlink(missing_ok=True)  # those of an index that is no more
    write_json(workspace.path("index_quality.json"), quality)
    index.save(workspace.item_index, about)
    print(quality_table(quality))
    if made.reassigned is not None:
        print(reassigned_line(made.reassigned))


def sorted_rows(item_ids: Sequence[str]) -> list[int]:
    """The rows by item id, so that the order of the items in their file changes nothing but the order of the rows."""
    return sorted(range(len(item_ids)), key=item_ids.__getitem__)


def reassigned_line(summary: Mapping[str, Any]) -> str:
    """What last-level reassignment did, in a line."""
    line = f"{summary['moved']:,} items moved to another code of the last level"
    if not summary["no_room"]:
        return f"{line}; no two have equal codes now"
    first = summary["no_room"][0]
    return (
        f"{line}; it has no room below {len(summary['no_room']):,} prefixes, the first "
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
