"""Identifiers for new items in an index that stands; no item of it gets another one."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.build import read_embeddings
from gream_ext.items.codebooks import load_codebooks, save_codebooks
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.items.kmeans import nearest
from gream_ext.items.measures import code_quality
from gream_ext.items.quality_table import quality_table
from gream_ext.items.rq_kmeans import assign, residuals
from gream_ext.items.stages import AddSettings
from gream_ext.workspace import ITEM_INDEX, ITEMS, Workspace, read_metadata, read_table, write_json

LEAST_AGREEMENT = 0.5
"""Share of the old items whose vector must still lead to their own first code."""


def add_items(workspace: Workspace, settings: AddSettings) -> None:
    """Write item_index.parquet, codebooks.safetensors and index_quality.json for the items of items.parquet.

    Items of the earlier index that items.parquet lacks are left out; their identifiers are kept back.
    """
    source = Workspace(settings.earlier)
    if source.root.resolve() == workspace.root.resolve():
        raise GreamError(f"--earlier {source.root} is the workspace to write to: name another --workspace")
    old = ItemIndex.load(source.item_index)
    about = read_metadata(source.item_index, ITEM_INDEX, "index build")
    slot = str(about.get("conflict_slot", "always"))
    levels = old.length - (slot != "none")
    codebooks = load_codebooks(source.codebooks, old.sizes[:levels], about.get("codebooks_sha256"))
    item_ids = read_table(workspace.items, ITEMS, "prepare")["item_id"].to_list()
    if about.get("collaborative"):
        raise GreamError(
            f"{source.item_index} was built with --collaborative, and new items have no training interactions: build a "
            "new index"
        )
    vectors = read_embeddings(workspace, len(item_ids))
    if vectors.shape[1] != codebooks[0].shape[1]:
        raise GreamError(
            f"{workspace.embeddings} has {vectors.shape[1]} numbers a vector, {source.codebooks} "
            f"{codebooks[0].shape[1]}: embed with the encoder of the earlier index"
        )
    known = np.array([old.position.get(item, -1) for item in item_ids])
    _check_vectors(vectors, known, old, codebooks[0], workspace)
    new = np.array(sorted(np.flatnonzero(known < 0), key=item_ids.__getitem__), dtype=np.int64)
    gone = np.array(about.get("retired", []), dtype=np.int32).reshape(-1, old.length)
    retired = [*gone.tolist(), *old.codes[np.setdiff1d(np.arange(len(old)), known)].tolist()]
    taken = np.concatenate([old.codes, gone])
    codes = np.empty((len(item_ids), old.length), dtype=np.int32)
    codes[known >= 0] = old.codes[known[known >= 0]]
    codes[new], elsewhere = place_new(vectors[new], [item_ids[row] for row in new], taken, codebooks, old.sizes, slot)
    index = ItemIndex(tuple(item_ids), codes, old.sizes)
    quality = code_quality(codes[:, :levels], old.sizes[:levels])
    written = save_codebooks(workspace.codebooks, codebooks)
    write_json(workspace.path("index_quality.json"), {**quality, "added": len(new), "elsewhere": elsewhere})
    kept = {key: value for key, value in about.items() if key not in ("kind", "version", "gream_ext", "sizes", "seal")}
    index.save(workspace.item_index, {**kept, "codebooks_sha256": written, "retired": retired})
    print(
        f"{len(new):,} items added, {elsewhere:,} of them not at their nearest code; {len(item_ids) - len(new):,} kept "
        f"their identifier; {len(retired):,} identifiers of items that are gone are kept back"
    )
    print(quality_table(quality))


def place_new(
    vectors: np.ndarray,
    item_ids: Sequence[str],
    taken: np.ndarray,
    codebooks: Sequence[np.ndarray],
    sizes: Sequence[int],
    slot: str,
) -> tuple[np.ndarray, int]:
    """Codes of new items, int32 [items, length] with the slot, and how many did not get their nearest last code.

    ``taken`` int [identifiers, length] are the identifiers that exist, ``sizes`` those of all levels, ``slot`` is
    always, colliding or none. An item gets the nearest code of the last level at which there is room: a free code;
    with a slot one whose slots are not used up; never one whose only item has no slot. `GreamError` names the first
    item for which there is no room at all.
    """
    levels, most = len(codebooks), sizes[-1] if slot != "none" else 1
    codes = np.full((len(vectors), len(sizes)), NO_CODE, dtype=np.int32)
    if not len(vectors):
        return codes, 0
    closest = assign(vectors, codebooks)
    rest = residuals(vectors, closest[:, :-1], codebooks)
    wanted = Counter(map(tuple, closest.tolist()))
    used: Counter[tuple[int, ...]] = Counter()  # slots below each leaf; all of them below one whose item has none
    for row in taken.tolist():
        leaf, last = (tuple(row), 0) if slot == "none" else (tuple(row[:-1]), row[-1])
        used[leaf] = max(used[leaf], most if last == NO_CODE else last + 1)
    elsewhere = 0
    for number, item_id in enumerate(item_ids):
        leaf = tuple(closest[number].tolist())
        prefix, displaced = leaf[:-1], used[leaf] >= most
        if displaced:
            near = np.argsort(((codebooks[-1] - rest[number]) ** 2).sum(axis=1), kind="stable").tolist()
            leaf = next((one for code in near if used[one := (*prefix, code)] < most), ())
            elsewhere += 1
        if not leaf:
            raise GreamError(
                f"item {item_id!r}: every identifier below {prefix} is taken: build a new index, with a higher "
                "--codebook-size or --slot-size"
            )
        codes[number, :levels] = leaf
        if slot == "colliding" and not used[leaf] and wanted[leaf] < 2 and not displaced:
            used[leaf] = most  # without a slot it must stay alone; one that was displaced lets others join
            continue
        if slot != "none":
            codes[number, levels] = used[leaf]
        used[leaf] += 1
    return codes, elsewhere


def _check_vectors(
    vectors: np.ndarray, known: np.ndarray, old: ItemIndex, codebook: np.ndarray, workspace: Workspace
) -> None:
    """`GreamError` unless the old items' vectors look like those that the index was built from."""
    rows = np.flatnonzero(known >= 0)
    if not len(rows):
        return
    agree = nearest(np.array(vectors[rows], dtype=np.float32), codebook) == old.codes[known[rows], 0]
    if agree.mean() < LEAST_AGREEMENT:
        raise GreamError(
            f"{workspace.embeddings}: only {agree.mean():.0%} of the {len(rows):,} old items are still nearest to "
            "their first code: embed with the encoder and the text of the earlier index"
        )
