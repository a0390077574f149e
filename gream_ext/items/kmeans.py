"""K-means (eq. 5) by faiss, and where it starts."""

import logging
from typing import Any, Literal

import numpy as np

Start = Literal["ladder", "components"]
LADDER = (8, 16, 32, 64)
"""Principal components in which k-means is run before it is run in full width."""
COMPONENTS, WARM_UP = 128, 10
"""Principal components in which the other start is looked for, and iterations there."""
WARM_UP_ROWS, WARM_UP_ROWS_PER_CENTROID = 32768, 128
"""More rows than either of these take no part in that."""
FUSED = 16
"""faiss is several times faster in 16 columns than in 8: narrower rows get columns of zeros."""
BLOCK = 65536
"""Rows whose nearest centroids are looked for at once."""


def kmeans(
    rows: np.ndarray, size: int, iterations: int, seed: int, start: Start = "ladder"
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cluster ``rows``, float32 [rows, width]: objective, centroids float32 [size, width], the nearest of each row.

    The objective is the sum of squared distances before the last update. Started from single rows, as usual, k-means
    fails on residuals: in many dimensions all of them are about as far from one another, so the centroid that happens
    to lie nearest the middle takes most rows and the others keep their own. So it starts from the clusters found in a
    few principal components, then in more and more of them: that also keeps all codes of a level in use. With
    ``start`` components it starts from the clusters of many components at once: a lower error, less evenly used codes.
    """
    look, part = _ladder if start == "ladder" else _components, rows
    if len(rows) > (most := max(WARM_UP_ROWS, WARM_UP_ROWS_PER_CENTROID * size)):
        part = rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))]
    objective, centroids = lloyd(rows, look(part, size, iterations, seed), iterations)
    return objective, centroids, nearest(rows, centroids)


def _ladder(rows: np.ndarray, size: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids found in few principal components, then in more of them: float32 [size, width]."""
    components = principal_components(rows, max(LADDER))
    start = spread_greedily(components[:, : LADDER[0]], size, seed)
    for width in LADDER:
        narrow = np.ascontiguousarray(components[:, :width])
        group = nearest(narrow, lloyd(narrow, start, iterations)[1])
        if width >= components.shape[1]:
            break
        start = means(components[:, : 2 * width], group, size)
    return means(rows, group, size)


def _components(rows: np.ndarray, size: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids found in `COMPONENTS` principal components, from rows of greedy k-means++: float32 [size, width]."""
    narrow = principal_components(rows, COMPONENTS)
    found = lloyd(narrow, spread_greedily(narrow, size, seed), min(iterations, WARM_UP))[1]
    return means(rows, nearest(narrow, found), size)


def spread_greedily(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Rows far from one another, float32 [size, width]: k-means++ (Arthur and Vassilvitskii, 2007).

    Each is the best of a few that were drawn: the one that leaves the others nearest to those chosen.
    """
    rng, draws = np.random.default_rng(seed), 2 + int(np.log(size))
    squares = np.einsum("ij,ij->i", rows, rows)
    chosen = [int(rng.integers(len(rows)))]
    distance = np.maximum(squares - 2 * (rows @ rows[chosen[0]]) + squares[chosen[0]], 0)
    while len(chosen) < size:
        reached = np.cumsum(distance, dtype=np.float64)
        if not reached[-1]:  # every row lies on one that was chosen: any will do
            chosen.append(len(chosen))
            continue
        drawn = np.minimum(np.searchsorted(reached, rng.random(draws) * reached[-1]), len(rows) - 1)
        shorter = np.maximum(squares - 2 * (rows[drawn] @ rows.T) + squares[drawn][:, None], 0)
        np.minimum(shorter, distance, out=shorter)
        best = int(shorter.sum(axis=1).argmin())
        distance = shorter[best]
        chosen.append(int(drawn[best]))
    return rows[chosen]


def principal_components(rows: np.ndarray, width: int) -> np.ndarray:
    """The coordinates of ``rows`` along their main directions: float32 [rows, width], fewer columns where rows have."""
    matrix = faiss_module().PCAMatrix(rows.shape[1], min(width, *rows.shape))
    matrix.train(rows)
    return np.ascontiguousarray(matrix.apply(rows))


def lloyd(rows: np.ndarray, start: np.ndarray, iterations: int) -> tuple[float, np.ndarray]:
    """Lloyd's k-means from the centroids ``start``: the objective before the last update, the centroids after it.

    Empty clusters get half of a large one.
    """
    wide, begin = (np.ascontiguousarray(one, dtype=np.float32) for one in (rows, start))
    if rows.shape[1] < FUSED:
        wide, begin = (np.pad(one, ((0, 0), (0, FUSED - one.shape[1]))) for one in (wide, begin))
    run: Any = faiss_module().Kmeans(
        wide.shape[1],
        len(start),
        niter=iterations,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # faiss would train on a sample
    )
    run.train(wide, init_centroids=begin)
    found = np.array(run.centroids, dtype=np.float32).reshape(begin.shape)[:, : start.shape[1]]
    return float(run.obj[-1]), np.ascontiguousarray(found)


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row (eq. 6), int32 [rows]."""
    return nearest_few(rows, centroids, 1)[1][:, 0]


def nearest_few(rows: np.ndarray, centroids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` nearest centroids of each row: squared distances float32, centroids int32, both [rows, count]."""
    index = faiss_module().IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    distances = np.empty((len(rows), count), dtype=np.float32)
    found = np.empty((len(rows), count), dtype=np.int32)
    step = max(1, BLOCK // count)  # faiss gives int64 for the centroids
    for begin in range(0, len(rows), step):
        part = slice(begin, begin + step)
        distances[part], found[part] = index.search(np.ascontiguousarray(rows[part], dtype=np.float32), count)
    return distances, found


def means(rows: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """The mean of the rows of each group, float32 [size, width]; 0 for an empty one."""
    import torch  # many times as fast as numpy's reduceat; the rows are added one after another, so always alike

    total = torch.zeros(size, rows.shape[1])
    groups = torch.from_numpy(np.asarray(group, dtype=np.int64))
    total.index_add_(0, groups, torch.from_numpy(np.ascontiguousarray(rows)))
    return total.numpy() / np.maximum(np.bincount(group, minlength=size), 1)[:, None].astype(np.float32)


def faiss_module() -> Any:
    """faiss, which would otherwise log which variants of itself it does not find."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss
