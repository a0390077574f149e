"""Replay (table 4, direct then reason): a share of the alignment rows beside the reasoning rows, against forgetting."""

import numpy as np

from gream_ext.curriculum import ALIGN

NEVER = -1
"""Stands in a row's epoch when no epoch trains it."""


def replayed(kinds: np.ndarray, epochs: np.ndarray, share: float, seed: int) -> np.ndarray:
    """The epochs of all rows, `NEVER` for the alignment rows that are left out: int32 [rows].

    ``share`` of the alignment rows of each epoch stay, drawn by ``seed``, at least one where there are any.
    Rows that belong to every epoch (0) are drawn once: the same ones come in each.

    >>> replayed(np.array([0, 0, 0, 0, 1]), np.array([1, 1, 2, 2, 1]), share=0.5, seed=0).tolist()
    [-1, 1, 2, -1, 1]
    """
    left = np.array(epochs, np.int32)
    for epoch in np.unique(epochs[kinds == ALIGN]):
        rows = np.flatnonzero((kinds == ALIGN) & (epochs == epoch))
        order = np.random.default_rng([seed, int(epoch), 2]).permutation(rows)
        left[order[max(1, round(share * len(rows))) :]] = NEVER
    return left
