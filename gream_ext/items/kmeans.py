"""K-means on faiss (eq. 5): where it starts, and when it stops."""

import logging
from typing import Any

import numpy as np

ROWS_AT_ONCE = 65536
COMPONENTS = 128
"""Principal components in which the start is looked for."""
WARM_UP = 10
"""Iterations in the principal components."""
ROWS_PER_CENTROID = 256
"""Rows, drawn at random, that a start is looked for in, for each centroid."""
STEP = 2
"""Iterations between two looks at the objective."""
TOLERANCE = 3e-4
"""K-means stops when an iteration lowers its objective by less than this share of it."""


def kmeans(rows: np.ndarray, size: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """The objective that was reached and the centroids, float32 [size, width], of ``rows`` float32 [rows, width].

    Started from single rows in full width, as usual, k-means fails on residuals: in many dimensions all of them are
    about as far from one another, so the centroid that happens to lie nearest the middle takes most rows and the
    others keep their own. So it starts from the clusters found in the principal components, there from rows chosen
    by greedy k-means++; what is left to do in full width is little.
    """
    return lloyd(rows, warm_start(rows, size, iterations, seed), iterations, seed)


def warm_start(rows: np.ndarray, size: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids to start from, float32 [size, width]."""
    if len(rows) > ROWS_PER_CENTROID * size:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), ROWS_PER_CENTROID * size, replace=False))]
    narrow = principal_components(rows, COMPONENTS, seed)
    _, centroids = lloyd(narrow, spread(narrow, size, seed), min(iterations, WARM_UP), seed)
    return means(rows, nearest(narrow, centroids), size)


def lloyd(rows: np.ndarray, start: np.ndarray, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """K-means from the centroids ``start``: the objective before the last update, and the centroids."""
    centroids, objective, before = start, np.inf, np.inf
    for done in range(0, iterations, STEP):
        steps = min(STEP, iterations - done)
        run: Any = faiss_module().Kmeans(
            rows.shape[1],
            len(start),
            niter=steps,
            seed=seed,
            min_points_per_centroid=1,
            max_points_per_centroid=len(rows),  # faiss would train on a sample
        )
        run.train(rows, init_centroids=centroids)
        centroids, objective = np.array(run.centroids, dtype=np.float32).reshape(start.shape), float(run.obj[-1])
        if before - objective < steps * TOLERANCE * objective:
            break
        before = objective
    return objective, centroids


def spread(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Rows far from one another, float32 [size, width]: greedy k-means++ (Arthur and Vassilvitskii, 2007).

    Each is the best of a few that are drawn by their squared distance from those chosen before.
    """
    chance = np.random.default_rng(seed)
    draws = 2 + int(np.log(size))
    squares = np.einsum("ij,ij->i", rows, rows)
    chosen = [int(chance.integers(len(rows)))]
    distance = _distances(rows, squares, np.array(chosen))[0]
    while len(chosen) < size:
        reached = np.cumsum(distance, dtype=np.float64)
        if not reached[-1]:  # every row lies on one that was chosen: any will do
            chosen.append(len(chosen))
            continue
        drawn = np.minimum(np.searchsorted(reached, chance.random(draws) * reached[-1]), len(rows) - 1)
        shorter = np.minimum(_distances(rows, squares, drawn), distance)
        best = int(shorter.sum(axis=1).argmin())
        distance = shorter[best]
        chosen.append(int(drawn[best]))
    return rows[chosen]


def _distances(rows: np.ndarray, squares: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Squared distances from the rows ``chosen`` to all, float32 [chosen, rows]."""
    found = squares - 2 * (rows[chosen] @ rows.T) + squares[chosen][:, None]
    return np.asarray(np.maximum(found, 0))


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
    rotation: np.ndarray = np.linalg.eigh(along.T @ along)[1][:, ::-1][:, :width]
    return np.ascontiguousarray(along @ rotation)


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
