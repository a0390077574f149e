"""The conflict slot: a last level that tells items apart whose codes are the same."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.index import NO_CODE

ConflictSlot = Literal["always", "colliding", "none"]


def groups(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which rows of ``codes`` [rows, levels] are the same: group of each row, size of each group.

    Groups are numbered from 0 in the order of their codes.
    """
    order = np.lexsort(codes.T[::-1])
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
    order = np.argsort(group, kind="stable")
    starts = np.cumsum(members) - members
    slots = np.empty(len(codes), dtype=np.int32)
    slots[order] = np.arange(len(codes)) - np.repeat(starts, members)
    if slot == "colliding":
        slots[members[group] == 1] = NO_CODE
    return np.column_stack([codes, slots]).astype(np.int32), (*sizes, slot_size)
