"""K-means on faiss (eq. 5), and where it starts."""

import logging
from typing import Any

import numpy as np

ROWS_AT_ONCE = 65536
WARM_UP_WIDTHS = (8, 16, 32, 64)
"""Principal components in which k-means is run before it is run in full width."""


def kmeans(rows: np.ndarray, size: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """The objective that was reached and the centroids, float32 [size, width], of ``rows`` float32 [rows, width].

    Started from single rows, as usual, k-means fails on residuals: in many dimensions all of them are about as far
    from one another, so the centroid that happens to lie nearest the middle takes most rows and the others keep
    their own. So it starts from the clusters found in a few principal components (there from rows chosen by
    k-means++), then in more and more of them: that also keeps all codes of a level in use.
    """
    components = principal_components(rows, max(WARM_UP_WIDTHS), seed)
    group: np.ndarray = np.empty(0, dtype=np.int32)
    for step, width in enumerate(WARM_UP_WIDTHS):
        narrow = np.ascontiguousarray(components[:, :width])
        start = means(narrow, group, size) if step else spread(narrow, size, seed)
        group = nearest(narrow, lloyd(narrow, start, iterations, seed)[1])
        if width >= components.shape[1]:
            break
    return lloyd(rows, means(rows, group, size), iterations, seed)


def lloyd(rows: np.ndarray, start: np.ndarray, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """K-means from the centroids ``start``: the objective and the centroids."""
    run: Any = faiss_module().Kmeans(
        rows.shape[1],
        len(start),
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # faiss would train on a sample
    )
    run.train(rows, init_centroids=start)
    return float(run.obj[-1]), np.array(run.centroids, dtype=np.float32).reshape(start.shape)


def spread(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Rows far from one another, float32 [size, width]: the start of k-means++ (Arthur and Vassilvitskii, 2007)."""
    chance = np.random.default_rng(seed)
    chosen = [int(chance.integers(len(rows)))]
    distance = np.full(len(rows), np.inf, dtype=np.float32)
    while len(chosen) < size:
        away = rows - rows[chosen[-1]]
        np.minimum(distance, np.einsum("ij,ij->i", away, away), out=distance)
        reached = np.cumsum(distance, dtype=np.float64)
        # Where every row lies on one that was chosen, any will do.
        chosen.append(int(np.searchsorted(reached, chance.random() * reached[-1])) if reached[-1] else len(chosen))
    return rows[chosen]


def principal_components(rows: np.ndarray, width: int, seed: int) -> np.ndarray:
    """The coordinates of ``rows`` along their main directions, by subspace iteration: float32 [rows, width].

    There are fewer columns where the rows have fewer.
    """
    mean = rows.mean(axis=0)
    few = min(width + 8, rows.shape[1])  # a few more than asked make the last ones good
    basis: np.ndarray = np.random.default_rng(seed).standard_normal((rows.shape[1], few)).astype(np.float32)
    for _ in range(3):
        along = rows @ basis - mean @ basis
        basis = np.linalg.qr(rows.T @ along - np.outer(mean, along.sum(axis=0)))[0]
    along = rows @ basis - mean @ basis
    rotation: np.ndarray = np.linalg.eigh(along.T @ along)[1][:, ::-1]
    return np.asarray(along @ rotation[:, :width])


def means(rows: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """The mean of the rows of each group, float32 [size, width]; 0 for an empty one."""
    sums = np.zeros((size, rows.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        order = np.argsort(group[part], kind="stable")
        present, first = np.unique(group[part][order], return_index=True)
        sums[present] += np.add.reduceat(rows[part][order], first, axis=0)
    return sums / np.maximum(np.bincount(group, minlength=size), 1)[:, None].astype(np.float32)


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row (eq. 6), int32 [rows]."""
    index = faiss_module().IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    found = np.empty(len(rows), dtype=np.int32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = index.search(np.ascontiguousarray(rows[part], dtype=np.float32), 1)[1][:, 0]
    return found


def faiss_module() -> Any:
    """faiss, which would otherwise log which variants of itself it does not find."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss
