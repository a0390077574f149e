"""Shares of the data: a part of the alignment rows (replay, table 4), and rows of other data among them.

Both are held against forgetting, and both are drawn for each epoch before its batches are planned.
"""

import math

import numpy as np

from gream_ext.curriculum import ALIGN
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import GENERAL, UNTOLD, CurriculumKeys

NEVER = -1
"""Stands in a row's epoch when no epoch trains it."""


def drawn(
    kinds: np.ndarray, epochs: np.ndarray, keys: CurriculumKeys, run_epochs: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds (`ALIGN`, `REASON`) and epochs of all rows, int32 [rows] each, after both shares were drawn."""
    if keys.gream_align_share < 1:
        epochs = replayed(kinds, epochs, keys.gream_align_share, seed)
    return with_general(kinds, epochs, keys.gream_general_share, run_epochs, seed)


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


def general_rows(kinds: np.ndarray, epochs: np.ndarray, share: float, run_epochs: int) -> list[int]:
    """So many general rows make up ``share`` of the rows of each epoch of the run."""
    own = epochs[kinds != GENERAL]
    return [round(share / (1 - share) * int(np.isin(own, (0, epoch)).sum())) for epoch in range(1, run_epochs + 1)]


def with_general(
    kinds: np.ndarray, epochs: np.ndarray, share: float, run_epochs: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """General rows as alignment rows, each in one epoch at most: kinds and epochs, int32 [rows] each.

    They are drawn by ``seed`` without replacement over the whole run.

    Raises:
        GreamError: if there are too few of them.
    """
    general = np.flatnonzero(kinds == GENERAL)
    if len(general) and not share:
        raise GreamError(f"one of the tokenized datasets {UNTOLD}")
    wanted = general_rows(kinds, epochs, share, run_epochs)
    if sum(wanted) > len(general):
        highest = len(general) / (len(general) + sum(wanted) * (1 - share) / share)
        raise GreamError(
            f"gream_general_share: {share} asks for {sum(wanted):,} rows of general data in {run_epochs} epochs, and "
            f"there are {len(general):,}: give more, or lower it to {math.floor(1000 * highest) / 1000:g}"
        )
    order = np.random.default_rng([seed, 0, 3]).permutation(general)
    chosen = np.array(epochs, np.int32)
    chosen[general] = NEVER
    chosen[order[: sum(wanted)]] = np.repeat(np.arange(1, run_epochs + 1), wanted)
    return np.where(kinds == GENERAL, ALIGN, kinds).astype(np.int32), chosen
