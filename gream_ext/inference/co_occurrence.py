"""The prior ``co-occurrence``: what stood near the latest items of a history in training, counted.

It is for a look at what a model has not learned, and for lists that are better today; `gream_ext.decoding.prior` guides
the beam by it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from gream_ext.data.co_occurrence import item_pair_counts
from gream_ext.decoding.prior import Prior
from gream_ext.items.index import ItemIndex

LATEST, RECENCY, SMOOTHING = 10, 0.8, 1.0
"""Items of a history that count; how much less each counts than the one after it; what every item has beside its
counts, so that none has a mass of zero."""


@dataclass(frozen=True, eq=False)
class CoOccurrence:
    """``counts`` float64 [items, items] by rows of the item index; ``weight`` is the prior's."""

    counts: csr_array
    weight: float

    @classmethod
    def fitted(cls, index: ItemIndex, histories: Iterable[Sequence[str]], weight: float) -> "CoOccurrence":
        """On training histories (item ids, oldest first) and nothing else. Items that the index lacks are left out."""
        return cls(item_pair_counts(histories, index.position), weight)

    def prior(self, histories: Sequence[Sequence[int]]) -> Prior:
        """The mass of item i after a history h (rows, oldest first): 1 + Σ .8^a · counts[h[-1-a], i] over a = 0…9."""
        latest = [list(history[: -LATEST - 1 : -1]) for history in histories]
        weights = [RECENCY ** np.arange(len(history)) for history in latest]
        ends = np.cumsum([0, *map(len, latest)])
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *(np.array(one, dtype=np.int64) for one in latest)])
        data = np.concatenate([np.zeros(0), *weights])
        shares = csr_array((data, rows, ends), shape=(len(latest), self.counts.shape[0]))
        return Prior((shares @ self.counts).toarray() + SMOOTHING, self.weight)
