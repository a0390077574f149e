"""Items with equal codes: they take other codes of the last level, or a conflict slot, that tells them apart."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.capped import capped_assignment
from gream_ext.items.index import NO_CODE
from gream_ext.items.kmeans import nearest_few
from gream_ext.items.rq_kmeans import residuals

ConflictSlot = Literal["always", "colliding", "none"]


def groups(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of ``codes`` [rows, levels] are the same: group of each row, size of each group.

    Groups are numbered from 0 in the order of their codes.
    """
    order = np.lexsort(codes.T[::-1]) if codes.shape[1] else np.arange(len(codes))
    ordered = codes[order]
    starts = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])[: len(codes)]
    group = np.empty(len(codes), dtype=np.int64)
    group[order] = np.cumsum(starts) - 1
    return group, np.bincount(group)


def add_conflict_slot(
    codes: np.ndarray, sizes: Sequence[int], slot: ConflictSlot = "always", slot_size: int | None = None
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Codes with the conflict slot, int32 [rows, levels + 1], and the sizes of all levels.

    The members of a colliding group get the slots 0, 1, 2 … in the order of their rows. With ``always`` an item that
    collides with nobody has slot 0, with ``colliding`` it has none (`NO_CODE`), with ``none`` there is no slot and a
    collision is an error. ``slot_size`` of None is twice what is needed, as a power of two of at least 4: room for
    items added later.

    >>> add_conflict_slot(np.array([[5], [7], [5]]), [8], "colliding")[0].tolist()
    [[5, 0], [7, -1], [5, 1]]
    """
    codes = np.asarray(codes, dtype=np.int32)
    group, members = groups(codes)
    largest = int(members.max(initial=1))
    if slot == "none":
        if largest > 1:
            raise GreamError(
                f"{int((members > 1).sum())} groups of items have the same codes, the largest of {largest}: "
                "set --conflict-slot always or colliding"
            )
        return codes, tuple(sizes)
    if slot_size is None:
        slot_size = max(4, 1 << (2 * largest - 1).bit_length())
    if slot_size < largest:
        raise GreamError(f"--slot-size {slot_size} is too small: {largest} items have the same codes")
    slots = np.empty(len(codes), dtype=np.int32)
    slots[np.argsort(group, kind="stable")] = np.arange(len(codes)) - np.repeat(np.cumsum(members) - members, members)
    if slot == "colliding":
        slots[members[group] == 1] = NO_CODE
    return np.column_stack([codes, slots]).astype(np.int32), (*sizes, slot_size)


class Reassignment(NamedTuple):
    codes: np.ndarray
    """int32 [rows, levels]; equal rows are left only below the prefixes in `crowded`."""
    moved: int
    """Rows that have another code at the last level than before."""
    crowded: list[tuple[tuple[int, ...], int]]
    """Codes of all levels but the last that more rows share than the last level has codes, and how many do."""


def reassign_last_level(vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> Reassignment:
    """Give the rows of each prefix codes of the last level of their own, at nearly the least total distance.

    ``vectors`` are float32 [rows, width], ``codes`` int32 [rows, levels] theirs. Only prefixes below which two rows
    have equal codes are touched. Where more rows share a prefix than there are codes, each code is given to as few
    rows as can be.
    """
    last = codebooks[-1]
    made = codes.astype(np.int32, copy=True)
    leaf, together = groups(codes)
    prefix, members = groups(codes[:, :-1])
    order, starts = np.argsort(prefix, kind="stable"), np.cumsum(members) - members
    crowded = []
    for number in np.unique(prefix[together[leaf] > 1]):
        rows = order[starts[number] :][: members[number]]
        rest = residuals(vectors[rows], codes[rows, :-1], codebooks)
        share = -(-len(rows) // len(last))
        if share > 1:
            crowded.append((tuple(map(int, codes[rows[0], :-1])), len(rows)))
        made[rows, -1] = capped_assignment(*nearest_few(rest, last, len(last)), len(last), share)
    return Reassignment(made, int((made[:, -1] != codes[:, -1]).sum()), crowded)
