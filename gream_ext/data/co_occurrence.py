"""Which items stand near each other in users' histories."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
from scipy.sparse import coo_array, csr_array

SPAN = 5
"""How many positions apart two items of a history may stand."""


def pair_counts(histories: Iterable[Sequence[int]], items: int, span: int = SPAN) -> csr_array:
    """How often items stand up to ``span`` positions apart: float64 [items, items], symmetric, nothing of an item with
    itself.

    ``histories`` are rows of the items, oldest first. Time and memory grow with ``span`` times the interactions.

    >>> pair_counts([[0, 1, 2], [0, 1]], 3, span=1).toarray().tolist()
    [[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    histories = list(histories)
    users = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
    rows = np.fromiter(chain.from_iterable(histories), dtype=np.int64, count=len(users))
    earlier, later = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for apart in range(1, min(span, max(0, len(rows) - 1)) + 1):
        pairs = (users[apart:] == users[:-apart]) & (rows[apart:] != rows[:-apart])
        earlier.append(rows[:-apart][pairs])
        later.append(rows[apart:][pairs])
    first, second = np.concatenate(earlier), np.concatenate(later)
    ahead = csr_array(coo_array((np.ones(len(first)), (first, second)), shape=(items, items)))
    return csr_array(ahead + ahead.T)


def item_pair_counts(histories: Iterable[Sequence[str]], position: Mapping[str, int]) -> csr_array:
    """`pair_counts` of item ids by their rows in ``position``; items without one are left out."""
    return pair_counts(
        [[position[item] for item in history if item in position] for history in histories], len(position)
    )
