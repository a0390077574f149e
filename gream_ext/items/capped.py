"""K-means whose clusters have at most so many rows."""

import numpy as np

from gream_ext.items.auction import capped_assignment
from gream_ext.items.kmeans import Start, kmeans
from gream_ext.items.lloyd import move_sums, sums
from gream_ext.items.nearest import objective, scores_of

TOLERANCE = 3e-4
"""It stops when an iteration lowers the objective by less than this share of it."""
CANDIDATES = 64
"""Clusters, the nearest, among which a row looks for a place at least."""
SCORED = 1024
"""Rows whose distances to all clusters are held at once, with the places of all of them, int64, in their order."""


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
