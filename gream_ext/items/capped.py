"""K-means whose clusters have at most so many rows: an auction in which clusters sell their places."""

from collections import deque
from heapq import heapify, heappop, heappush

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.kmeans import Start, kmeans
from gream_ext.items.lloyd import move_sums, sums
from gream_ext.items.nearest import objective, scores_of

TOLERANCE = 3e-4
"""It stops when an iteration lowers the objective by less than this share of it."""
PRECISION = 0.02
"""By what share of the mean least cost a row's assignment may be worse than the best at the final prices."""
SLOWEST = 1e-3
"""The least step of a price, as a share of the mean cost: without it rows on top of one another bid for ever."""
CANDIDATES = 64
"""Clusters, the nearest, among which a row looks for a place at least."""
BLOCK = 4096
"""Rows whose costs are copied at once."""
SCORED = 1024
"""Rows whose distances to all clusters are held at once, with the places of all of them, int64, in their order."""
FEW = 16
"""So many rows, and one in a thousand, bid one after the other: a round of all looks at every row."""


def balanced_kmeans(
    rows: np.ndarray, size: int, cap: int, iterations: int, seed: int, start: Start = "ladder"
) -> tuple[float, np.ndarray, np.ndarray]:
    """K-means with at most ``cap`` rows a cluster: objective, centroids float32 [size, width], cluster of each row.

    Plain k-means first; then the assignment of eq. 6 is the cheapest that keeps to the cap.
    """
    _, centroids, group = kmeans(rows, size, iterations, seed, start)
    if np.bincount(group).max() <= cap:
        return objective(rows, centroids, group), centroids, group
    squares, total = np.einsum("ij,ij->i", rows, rows), sums(rows, group, size).astype(np.float64)
    reached = before = np.inf
    for _ in range(iterations):
        old, group = group, _assignment(rows, centroids, squares, cap)
        changed = np.flatnonzero(old != group)
        move_sums(total, rows, changed, old[changed], group[changed])
        counts = np.maximum(np.bincount(group, minlength=size), 1)[:, None]
        centroids = (total / counts).astype(np.float32)
        reached = float(squares.sum(dtype=np.float64) - (total**2 / counts).sum())  # from rows to their means
        if before - reached < TOLERANCE * reached:
            break
        before = reached
    return reached, centroids, group


def _assignment(rows: np.ndarray, centroids: np.ndarray, squares: np.ndarray, cap: int) -> np.ndarray:
    candidates, costs = nearest_clusters(rows, centroids, squares)  # gone before the next are made: they are large
    return capped_assignment(costs, candidates, len(centroids), cap)


def nearest_clusters(rows: np.ndarray, centroids: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The clusters in which a row may get a place, int [rows, candidates], and its squared distance to each.

    All of them, unless they and the distances would take more than half the memory of the rows. ``squares`` are those
    of the rows.
    """
    size, width = centroids.shape
    many = size if 2 * size <= width else min(size, max(CANDIDATES, width // 4))
    costs = np.empty((len(rows), many), dtype=np.float32)
    kind = np.uint16 if size <= 1 << 16 else np.int32
    candidates = np.broadcast_to(np.arange(size, dtype=kind), (len(rows), size))
    if many < size:
        candidates = np.empty(costs.shape, dtype=kind)
    scores = scores_of(centroids)
    for start in range(0, len(rows), SCORED):
        part = slice(start, start + SCORED)
        score = scores(rows[part])
        score += squares[part, None]
        if many < size:
            found = np.argpartition(score, many - 1, axis=1)[:, :many]
            candidates[part], score = found, np.take_along_axis(score, found, axis=1)
        np.maximum(score, 0, out=costs[part])
    return candidates, costs


def capped_assignment(costs: np.ndarray, candidates: np.ndarray, size: int, cap: int) -> np.ndarray:
    """A cluster for each row, int32 [rows], at most ``cap`` rows a cluster, at nearly the least total cost.

    ``costs`` float32 [rows, candidates] are those of the clusters ``candidates``, int of the same shape. An auction
    (Bertsekas, 1988): each row without a place bids for the cluster that is cheapest for it, its cost and the
    cluster's price together; a cluster sells to the ``cap`` highest bidders, and its price is the lowest of their
    bids once all its places are sold. Rows whose candidates are all too dear come last, wherever there is room.
    """
    if len(costs) > size * cap:
        raise GreamError(f"{len(costs)} rows do not fit into {size} clusters of at most {cap}: raise the cap")
    least = max(PRECISION * float(costs.min(axis=1).mean()), SLOWEST * float(costs.mean())) or 1.0
    price = np.zeros(size, dtype=np.float32)
    place = np.full(len(costs), -1, dtype=np.int32)
    paid = np.zeros(len(costs), dtype=np.float32)
    waiting = np.arange(len(costs))
    limit = 2 * float(costs.max()) + 2 * least
    while len(waiting) > FEW + len(costs) // 1000:
        chosen, bids = _bids(costs, candidates, waiting, price, least)
        able = bids < limit
        if not able.all():
            waiting, chosen, bids = waiting[able], chosen[able], bids[able]
        place[waiting], paid[waiting] = chosen, bids
        asked = np.zeros(size, dtype=bool)
        asked[chosen] = True
        holders = np.flatnonzero(asked[place] & (place >= 0))
        order = holders[np.lexsort((-paid[holders], place[holders]))]
        first = np.searchsorted(place[order], np.arange(size))
        rank = np.arange(len(order)) - first[place[order]]
        full = order[rank == cap - 1]
        price[place[full]] = paid[full]
        waiting = order[rank >= cap]
        place[waiting] = -1
    _one_by_one(costs, candidates, waiting, place, paid, price, cap, least, limit)
    return _leftovers(place, costs, candidates, size, cap)


def _bids(
    costs: np.ndarray, candidates: np.ndarray, waiting: np.ndarray, price: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """For each waiting row the cluster that is cheapest for it, and what it would pay at most."""
    chosen = np.empty(len(waiting), dtype=np.int32)
    margin = np.zeros(len(waiting), dtype=np.float32)
    for start in range(0, len(waiting), BLOCK):
        rows, part = waiting[start : start + BLOCK], slice(start, start + BLOCK)
        total = costs[rows] + price[candidates[rows]]
        best = total.argmin(axis=1)
        here = np.arange(len(rows))
        chosen[part] = candidates[rows, best]
        if total.shape[1] > 1:
            cheapest = total[here, best]
            total[here, best] = np.inf
            margin[part] = total.min(axis=1) - cheapest
    return chosen, price[chosen] + margin + least


def _one_by_one(
    costs: np.ndarray,
    candidates: np.ndarray,
    waiting: np.ndarray,
    place: np.ndarray,
    paid: np.ndarray,
    price: np.ndarray,
    cap: int,
    least: float,
    limit: float,
) -> None:
    """The end of the auction, in place: a few rows push one another around many times, which is dear in rounds."""
    queue = deque(waiting.tolist())
    holders: dict[int, list[tuple[float, int]]] = {}  # of each cluster a heap: who pays least, the last row first
    while queue:
        row = queue.popleft()
        chosen, bids = _bids(costs, candidates, np.array([row]), price, least)
        cluster, bid = int(chosen[0]), float(bids[0])
        if bid >= limit:
            continue
        if cluster not in holders:
            there = np.flatnonzero(place == cluster)
            holders[cluster] = list(zip(paid[there].tolist(), (-there).tolist(), strict=True))
            heapify(holders[cluster])
        heap = holders[cluster]
        heappush(heap, (bid, -row))
        place[row] = cluster
        if len(heap) > cap:
            lost = -heappop(heap)[1]
            place[lost] = -1
            queue.append(lost)
        if len(heap) == cap:
            price[cluster] = heap[0][0]


def _leftovers(place: np.ndarray, costs: np.ndarray, candidates: np.ndarray, size: int, cap: int) -> np.ndarray:
    """Give rows without a place the cheapest free one, in the order of the rows."""
    free = cap - np.bincount(place[place >= 0], minlength=size)
    for row in np.flatnonzero(place < 0):
        there = free[candidates[row]] > 0
        chosen = (
            int(candidates[row][there][costs[row][there].argmin()]) if there.any() else int(np.flatnonzero(free)[0])
        )
        place[row] = chosen
        free[chosen] -= 1
    return place
