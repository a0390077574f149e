"""Lloyd's k-means from given centroids, without the distances that bounds make superfluous."""

from typing import Any

import numpy as np

from gream_ext.items.nearest import Assignment, faiss_module, nearest

WIDE = 64
"""From so many columns on the bounds save more than they cost; below, faiss computes every distance."""
FUSED = 16
"""faiss is several times faster in 16 columns than in 8: narrower rows get columns of zeros."""
BLOCK = 4096
"""Rows that are copied at once."""


def lloyd(rows: np.ndarray, start: np.ndarray, iterations: int) -> tuple[float, np.ndarray, np.ndarray]:
    """K-means on ``rows``, float32 [rows, width], from the centroids ``start``, float32 [size, width].

    Returns the objective before the last update (the sum of squared distances), the centroids after it, and the
    nearest of these to each row, int32 [rows]. It ends before ``iterations`` when no row changes its centroid.
    """
    if rows.shape[1] < WIDE:
        objective, centroids = by_faiss(rows, start, iterations)
        return objective, centroids, nearest(rows, centroids)
    watch, centroids, objective = Assignment(rows, start), start, 0.0
    total = sums(rows, watch.place, len(start)).astype(np.float64)
    for left in reversed(range(iterations)):
        counts = np.bincount(watch.place, minlength=len(start))
        if not left:
            objective = watch.objective(centroids)
        full = bool(counts.all())  # where one is empty faiss parts a large one
        moved = (total / counts[:, None]).astype(np.float32) if full else by_faiss(rows, centroids, 1)[1]
        changed, old = watch.move(centroids, moved)
        centroids = moved
        if left and full and not len(changed):
            return watch.objective(centroids), centroids, watch.place
        move_sums(total, rows, changed, old, watch.place[changed])
    return objective, centroids, watch.place


def by_faiss(rows: np.ndarray, start: np.ndarray, iterations: int) -> tuple[float, np.ndarray]:
    """The objective before the last update, and the centroids."""
    rows, wide = _at_least(rows, FUSED), _at_least(start, FUSED)
    run: Any = faiss_module().Kmeans(
        rows.shape[1],
        len(start),
        niter=iterations,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # faiss would train on a sample
    )
    run.train(rows, init_centroids=wide)
    found = np.array(run.centroids, dtype=np.float32).reshape(wide.shape)[:, : start.shape[1]]
    return float(run.obj[-1]), np.ascontiguousarray(found)


def means(rows: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """The mean of the rows of each group, float32 [size, width]; 0 for an empty one."""
    counts = np.maximum(np.bincount(group, minlength=size), 1)[:, None].astype(np.float32)
    return np.asarray(sums(rows, group, size) / counts)


def sums(rows: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """The sum of the rows of each group, float32 [size, width]."""
    import torch  # many times as fast as numpy's reduceat; the rows are added one after another, so always alike

    total = torch.zeros(size, rows.shape[1])
    places = torch.from_numpy(np.asarray(group, dtype=np.int64))
    total.index_add_(0, places, torch.from_numpy(np.ascontiguousarray(rows)))
    return total.numpy()


def move_sums(total: np.ndarray, rows: np.ndarray, changed: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    """Keep the sums of the groups, float64 [size, width], up when the rows ``changed`` go from groups to others."""
    for begin in range(0, len(changed), BLOCK):
        part = slice(begin, begin + BLOCK)
        gone = rows[changed[part]]
        total += sums(gone, new[part], len(total))
        total -= sums(gone, old[part], len(total))


def _at_least(rows: np.ndarray, width: int) -> np.ndarray:
    missing = max(0, width - rows.shape[1])
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, missing))) if missing else rows, dtype=np.float32)
