"""Rows to clusters with at most so many places, at nearly the least total cost: an auction (Bertsekas, 1988)."""

from collections import deque
from heapq import heapify, heappop, heappush

import numpy as np

from gream_ext.errors import GreamError

PRECISION = 0.02
"""By what share of the mean least cost a row's assignment may be worse than the best at the final prices."""
SLOWEST = 1e-3
"""The least step of a price, as a share of the mean cost: without it rows on top of one another bid for ever."""
BLOCK = 4096
"""Rows whose costs are copied at once."""
FEW = 16
"""So many rows, and one in a thousand, bid one after the other: a round of all looks at every row."""


def capped_assignment(costs: np.ndarray, candidates: np.ndarray, size: int, cap: int) -> np.ndarray:
    """A cluster for each row, int32 [rows], at most ``cap`` rows a cluster, at nearly the least total cost.

    ``costs`` float32 [rows, candidates] are those of the clusters ``candidates``, int of the same shape. Rows whose
    candidates are all too dear come last, wherever there is room.
    """
    if len(costs) > size * cap:
        raise GreamError(f"{len(costs)} rows do not fit into {size} clusters of at most {cap}: raise the cap")
    auction = _Auction(costs, candidates, size, cap)
    auction.settle(auction.bid_in_rounds())
    auction.fill_up()
    return auction.place


class _Auction:
    """Each row without a place bids for the cluster that is cheapest for it, its cost and the cluster's price together.

    A cluster sells to the ``cap`` highest bidders, and its price is the lowest of their bids once all its places are
    sold.
    """

    def __init__(self, costs: np.ndarray, candidates: np.ndarray, size: int, cap: int) -> None:
        self.costs, self.candidates, self.size, self.cap = costs, candidates, size, cap
        self.step = max(PRECISION * float(costs.min(axis=1).mean()), SLOWEST * float(costs.mean())) or 1.0
        self.limit = 2 * float(costs.max()) + 2 * self.step
        self.price = np.zeros(size, dtype=np.float32)
        self.place = np.full(len(costs), -1, dtype=np.int32)
        self.paid = np.zeros(len(costs), dtype=np.float32)

    def bid_in_rounds(self) -> np.ndarray:
        """All rows without a place bid at once, until few are left: those."""
        waiting = np.arange(len(self.costs))
        while len(waiting) > FEW + len(self.costs) // 1000:
            chosen, bids = self._bids(waiting)
            able = bids < self.limit
            if not able.all():
                waiting, chosen, bids = waiting[able], chosen[able], bids[able]
            self.place[waiting], self.paid[waiting] = chosen, bids
            asked = np.zeros(self.size, dtype=bool)
            asked[chosen] = True
            holders = np.flatnonzero(asked[self.place] & (self.place >= 0))
            order = holders[np.lexsort((-self.paid[holders], self.place[holders]))]
            first = np.searchsorted(self.place[order], np.arange(self.size))
            rank = np.arange(len(order)) - first[self.place[order]]
            full = order[rank == self.cap - 1]
            self.price[self.place[full]] = self.paid[full]
            waiting = order[rank >= self.cap]
            self.place[waiting] = -1
        return waiting

    def settle(self, waiting: np.ndarray) -> None:
        """The few that are left bid one after the other: they push one another around many times, dear in rounds."""
        queue = deque(waiting.tolist())
        holders: dict[int, list[tuple[float, int]]] = {}  # of each cluster a heap: who pays least, the last row first
        while queue:
            row = queue.popleft()
            chosen, bids = self._bids(np.array([row]))
            cluster, bid = int(chosen[0]), float(bids[0])
            if bid >= self.limit:
                continue
            if cluster not in holders:
                there = np.flatnonzero(self.place == cluster)
                holders[cluster] = list(zip(self.paid[there].tolist(), (-there).tolist(), strict=True))
                heapify(holders[cluster])
            heap = holders[cluster]
            heappush(heap, (bid, -row))
            self.place[row] = cluster
            if len(heap) > self.cap:
                lost = -heappop(heap)[1]
                self.place[lost] = -1
                queue.append(lost)
            if len(heap) == self.cap:
                self.price[cluster] = heap[0][0]

    def fill_up(self) -> None:
        """Rows that could not pay get the cheapest free place, in the order of the rows."""
        free = self.cap - np.bincount(self.place[self.place >= 0], minlength=self.size)
        for row in np.flatnonzero(self.place < 0):
            costs, candidates = self.costs[row], self.candidates[row]
            there = free[candidates] > 0
            chosen = int(candidates[there][costs[there].argmin()] if there.any() else np.flatnonzero(free)[0])
            self.place[row] = chosen
            free[chosen] -= 1

    def _bids(self, waiting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each waiting row the cluster that is cheapest for it, and what it would pay at most."""
        chosen = np.empty(len(waiting), dtype=np.int32)
        margin = np.zeros(len(waiting), dtype=np.float32)
        for start in range(0, len(waiting), BLOCK):
            rows, part = waiting[start : start + BLOCK], slice(start, start + BLOCK)
            total = self.costs[rows] + self.price[self.candidates[rows]]
            best = total.argmin(axis=1)
            here = np.arange(len(rows))
            chosen[part] = self.candidates[rows, best]
            if total.shape[1] > 1:
                cheapest = total[here, best]
                total[here, best] = np.inf
                margin[part] = total.min(axis=1) - cheapest
        return chosen, self.price[chosen] + margin + self.step
