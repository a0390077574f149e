"""Stage ``index build``: from vectors to identifiers, or from identifiers that somebody else made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.conflict import ConflictSlot, add_conflict_slot
from gream_ext.items.index import ItemIndex
from gream_ext.items.measures import code_quality, quality_table
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table, whole, write_json

ITEMS_PER_CENTROID = 40


@dataclass(frozen=True)
class BuildSettings:
    levels: int = option(4, help="Levels of RQ-KMeans, without the conflict slot.")
    codebook_size: int | None = option(
        None, help="Centroids of each level; left out, it fits the catalogue (256 from about 7,000 items on)."
    )
    conflict_slot: ConflictSlot = option(
        "always",
        help="Last level that tells items with equal codes apart: for all items, those that collide, or none.",
        choices=("always", "colliding", "none"),
    )
    slot_size: int | None = option(None, help="Codes of the conflict slot; left out, twice what is needed.")
    iterations: int = option(25, help="Iterations of k-means.")
    restarts: int = option(1, help="Runs of k-means of which the best is kept.")
    seed: int = option(0, help="Same seed, same index.")
    from_file: str | None = option(
        None, help="JSONL[.gz] with item_id and a list of codes or tokens: take these codes instead of clustering."
    )
    from_field: str | None = option(None, help="Field of --from-file with the codes, where it has several.")


def run(workspace: Workspace, settings: BuildSettings) -> None:
    """Write item_index.parquet, index_quality.json and, unless the codes were brought, codebooks.safetensors."""
    if min(settings.levels, settings.codebook_size or 1, settings.iterations, settings.restarts) < 1:
        raise GreamError("--levels, --codebook-size, --iterations and --restarts must be at least 1")
    item_ids = read_table(workspace.items, ITEMS, "prepare")["item_id"].to_list()
    # Sorted, so that the order of the items in their file changes nothing but the order of the rows.
    order = sorted(range(len(item_ids)), key=item_ids.__getitem__)
    codebooks: list[np.ndarray] = []
    errors: list[float] | None = None
    if settings.from_file is not None:
        from gream_ext.items.brought import read_codes

        given = read_codes(Path(settings.from_file), settings.from_field, [item_ids[row] for row in order])
        codes, sizes = given, [settings.codebook_size or int(size) for size in given.max(axis=0) + 1]
    else:
        from gream_ext.items.rq_kmeans import rq_kmeans

        vectors = read_embeddings(workspace, len(item_ids))[order]
        sizes = [settings.codebook_size or fitting_codebook_size(len(item_ids))] * settings.levels
        made = rq_kmeans(vectors, sizes, settings.iterations, settings.restarts, settings.seed)
        codes, codebooks, errors = made.codes, made.codebooks, made.errors
    slotted, all_sizes = add_conflict_slot(codes, sizes, settings.conflict_slot, settings.slot_size)
    place = np.argsort(order)
    index = ItemIndex(tuple(item_ids), slotted[place], all_sizes)
    quality = code_quality(codes, sizes, errors)
    _write(workspace, index, codebooks, quality, settings)
    print(quality_table(quality))


def fitting_codebook_size(items: int) -> int:
    """A power of two from 4 to 256 that suits so many items: about one centroid for every 40.

    >>> [fitting_codebook_size(items) for items in (80, 1349, 12101)]
    [4, 32, 256]
    """
    return min(256, max(4, 1 << round(math.log2(max(1, items) / ITEMS_PER_CENTROID))) if items > 160 else 4)


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
    from safetensors.numpy import save_file

    about = {"conflict_slot": settings.conflict_slot, "seed": settings.seed, "from_file": settings.from_file}
    if codebooks:
        with whole(workspace.codebooks) as draft:
            save_file({f"level_{level}": codebook for level, codebook in enumerate(codebooks)}, draft)
            draft.chmod(0o644)  # safetensors lets nobody else read
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
