"""K-means whose clusters have at most so many rows."""

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.kmeans import Start, kmeans, means, nearest_few

TOLERANCE = 1e-4
"""It stops when an iteration lowers the objective by less than this share of it."""
CANDIDATES = 16
"""Clusters, the nearest, among which a row looks for a free one."""


def balanced_kmeans(
    rows: np.ndarray, size: int, cap: int, iterations: int, seed: int, start: Start = "ladder"
) -> tuple[float, np.ndarray, np.ndarray]:
    """K-means with at most ``cap`` rows a cluster: objective, centroids float32 [size, width], cluster of each row.

    Plain k-means first; then the assignment of eq. 6 keeps to the cap.
    """
    objective, centroids, group = kmeans(rows, size, iterations, seed, start)
    if np.bincount(group).max() <= cap:
        return objective, centroids, group
    squares = np.einsum("ij,ij->", rows, rows, dtype=np.float64)
    many = min(size, CANDIDATES)
    best = (np.inf, centroids, group)
    for _ in range(iterations):
        costs, candidates = nearest_few(rows, centroids, many)
        group = capped_assignment(costs, candidates, size, cap)
        del costs, candidates  # large
        centroids = means(rows, group, size)
        counts = np.bincount(group, minlength=size)
        lengths = np.einsum("ij,ij->i", centroids, centroids, dtype=np.float64)
        objective = float(squares - (counts * lengths).sum())  # from rows to their means
        gain = best[0] - objective
        if gain > 0:
            best = (objective, centroids, group)
        if gain < TOLERANCE * objective:
            break
    return best


def capped_assignment(costs: np.ndarray, candidates: np.ndarray, size: int, cap: int) -> np.ndarray:
    """A cluster for each row, int32 [rows], at most ``cap`` rows a cluster: greedily by regret.

    ``costs`` float32 [rows, candidates], ascending, are those of the clusters ``candidates``, int alike. In each round
    every row without a cluster asks for its cheapest one with room, and those for whom the next one would be dearer
    by most get in. Rows whose candidates are all full go wherever there is room. `GreamError` if not all fit.
    """
    if len(costs) > size * cap:
        raise GreamError(f"{len(costs)} rows do not fit into {size} clusters of at most {cap}: raise the cap")
    group = np.full(len(costs), -1, dtype=np.int32)
    free = np.full(size, cap, dtype=np.int64)
    waiting = np.arange(len(costs))
    while len(waiting):
        room = free[candidates[waiting]] > 0
        able = room.any(axis=1)
        asking, room = waiting[able], room[able]
        here, first = np.arange(len(asking)), room.argmax(axis=1)
        room[here, first] = False
        second = room.argmax(axis=1)
        regret = np.where(room[here, second], costs[asking, second], np.inf) - costs[asking, first]
        wanted = candidates[asking, first]
        order = np.lexsort((-regret, wanted))
        begins = np.searchsorted(wanted[order], np.arange(size))
        rank = np.arange(len(order)) - begins[wanted[order]]
        accepted = order[rank < free[wanted[order]]]
        group[asking[accepted]] = wanted[accepted]
        free -= np.bincount(wanted[accepted], minlength=size)
        if not able.all():  # all their candidates are full, and stay so
            lost = waiting[~able]
            group[lost] = np.repeat(np.arange(size), free)[: len(lost)]
            free -= np.bincount(group[lost], minlength=size)
        waiting = asking[group[asking] < 0]
    return group
