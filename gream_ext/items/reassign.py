"""Last-level reassignment: items with equal codes take different codes of the last level, as far as it has room."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gream_ext.items.capped import capped_assignment
from gream_ext.items.conflict import groups
from gream_ext.items.kmeans import nearest_few
from gream_ext.items.rq_kmeans import residuals


@dataclass(frozen=True)
class Reassignment:
    """What became of the codes."""

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
    collides = together[leaf] > 1
    prefix, members = np.zeros(len(codes), dtype=np.int64), np.array([len(codes)])
    if codes.shape[1] > 1:
        prefix, members = groups(codes[:, :-1])
    touched = np.flatnonzero(np.bincount(prefix, weights=collides, minlength=len(members)))
    order = np.argsort(prefix, kind="stable")
    starts = np.cumsum(members) - members
    crowded = []
    for number in touched:
        rows = order[starts[number] : starts[number] + members[number]]
        rest = residuals(vectors[rows], codes[rows, :-1], codebooks)
        share = -(-len(rows) // len(last))
        if share > 1:
            crowded.append((tuple(map(int, codes[rows[0], :-1])), len(rows)))
        made[rows, -1] = capped_assignment(*nearest_few(rest, last, len(last)), len(last), share)
    return Reassignment(made, int((made[:, -1] != codes[:, -1]).sum()), crowded)
