"""The stage ``index build``: from vectors to identifiers, or from codes that somebody else made."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.identifiers import tokens
from gream_ext.items.codebooks import save_codebooks
from gream_ext.items.codes_file import read_codes
from gream_ext.items.collaborative import beside, collaborative_vectors
from gream_ext.items.conflict import add_conflict_slot, reassign_last_level
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import code_quality
from gream_ext.items.quality_table import quality_table
from gream_ext.items.rq_kmeans import Quantisation, rq_kmeans
from gream_ext.items.stages import BuildSettings
from gream_ext.workspace import ITEMS, Workspace, read_table, write_json

ITEMS_PER_CENTROID = 40


def build(workspace: Workspace, settings: BuildSettings) -> None:
    """Write item_index.parquet, index_quality.json and, unless the codes came from a file, codebooks.safetensors.

    Items are clustered in the order of their ids, so that their order in the file changes nothing but that of the rows.
    """
    item_ids = read_table(workspace.items, ITEMS, "prepare")["item_id"].to_list()
    rows = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    ordered = [item_ids[row] for row in rows]
    metadata: dict[str, Any] = {
        "conflict_slot": settings.conflict_slot,
        "seed": settings.seed,
        "from_file": settings.from_file and Path(settings.from_file).name,
        "reassign": settings.reassign,
        "balance": settings.balance,
        "start": settings.start,
        **({"collaborative": settings.collaborative} if settings.collaborative else {}),
    }
    reassigned = None
    if settings.from_file is not None:
        if settings.balance is not None or settings.reassign or settings.collaborative:
            raise GreamError("--balance, --reassign and --collaborative need vectors: they do not go with --from-file")
        codes = read_codes(Path(settings.from_file), settings.from_field, ordered)
        sizes = [settings.codebook_size or int(size) for size in codes.max(axis=0) + 1]
        quality = code_quality(codes, sizes)
    else:
        vectors = read_embeddings(workspace, len(item_ids))[rows]
        if settings.collaborative:
            others = collaborative_vectors(training_histories(workspace).values(), ordered, settings.seed)
            vectors = beside(vectors, others, settings.collaborative)
        sizes = [settings.codebook_size or fitting_codebook_size(len(vectors))] * settings.levels
        made = rq_kmeans(
            vectors, sizes, settings.iterations, settings.restarts, settings.seed, settings.balance, settings.start
        )
        codes, quality = made.codes, code_quality(made.codes, sizes, made.errors)
        if settings.reassign:
            codes, reassigned = _reassigned(vectors, made, settings)
            quality["reassigned"] = reassigned
    slotted, all_sizes = add_conflict_slot(codes, sizes, settings.conflict_slot, settings.slot_size)
    index = ItemIndex(tuple(item_ids), slotted[np.argsort(rows)], all_sizes)
    if settings.from_file is None:
        metadata["codebooks_sha256"] = save_codebooks(workspace.codebooks, made.codebooks)
    else:
        workspace.codebooks.unlink(missing_ok=True)  # those of an index that is no more
    write_json(workspace.path("index_quality.json"), quality)
    index.save(workspace.item_index, metadata)
    print(quality_table(quality))
    if reassigned is not None:
        print(_reassigned_line(reassigned))


def _reassigned(
    vectors: np.ndarray, made: Quantisation, settings: BuildSettings
) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The codes after last-level reassignment, and what became of them for index_quality.json."""
    codes, moved, crowded = reassign_last_level(vectors, made.codes, made.codebooks)
    summary = {"moved": moved, "no_room": [{"codes": list(prefix), "items": items} for prefix, items in crowded]}
    if crowded and settings.conflict_slot == "none":
        raise GreamError(f"{_reassigned_line(summary)}: set --conflict-slot colliding, or --codebook-size higher")
    return codes, summary


def _reassigned_line(summary: Mapping[str, Any]) -> str:
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
