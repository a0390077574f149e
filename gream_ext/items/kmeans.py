"""K-means (eq. 5), and where it starts."""

from typing import Literal

import numpy as np

from gream_ext.items.lloyd import lloyd, means

Start = Literal["ladder", "components"]
WARM_UP_WIDTHS = (8, 16, 32, 64)
"""Principal components in which k-means is run before it is run in full width."""
COMPONENTS, WARM_UP = 128, 10
"""Principal components in which the other start is looked for, and iterations there."""
WARM_UP_ROWS, WARM_UP_ROWS_PER_CENTROID = 32768, 128
"""More rows than either of these take no part in that."""


def kmeans(
    rows: np.ndarray, size: int, iterations: int, seed: int, start: Start = "ladder"
) -> tuple[float, np.ndarray, np.ndarray]:
    """Cluster ``rows``, float32 [rows, width]: what `lloyd` returns, the nearest centroid of each row last.

    Started from single rows, as usual, k-means fails on residuals: in many dimensions all of them are about as far
    from one another, so the centroid that happens to lie nearest the middle takes most rows and the others keep
    their own. So it starts from the clusters found in a few principal components (there from rows chosen by
    k-means++), then in more and more of them: that also keeps all codes of a level in use. With ``start`` components
    it starts from the clusters of many components at once: a lower error, less evenly used codes.
    """
    look = _ladder if start == "ladder" else _components
    return lloyd(rows, look(_sample(rows, size, seed), size, iterations, seed), iterations)


def _sample(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """What the start is looked for in: all rows, or where they are many a part of them drawn at random."""
    most = max(WARM_UP_ROWS, WARM_UP_ROWS_PER_CENTROID * size)
    if len(rows) <= most:
        return rows
    return np.asarray(rows[np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))])


def _ladder(rows: np.ndarray, size: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids found in few principal components, then in more of them: float32 [size, width]."""
    components = principal_components(rows, max(WARM_UP_WIDTHS), seed)
    group: np.ndarray = np.empty(0, dtype=np.int32)
    for step, width in enumerate(WARM_UP_WIDTHS):
        narrow = np.ascontiguousarray(components[:, :width])
        start = means(narrow, group, size) if step else spread(narrow, size, seed)
        group = lloyd(narrow, start, iterations)[2]
        if width >= components.shape[1]:
            break
    return means(rows, group, size)


def _components(rows: np.ndarray, size: int, iterations: int, seed: int) -> np.ndarray:
    """Centroids found in `COMPONENTS` principal components, from rows of greedy k-means++: float32 [size, width]."""
    narrow = np.ascontiguousarray(principal_components(rows, COMPONENTS, seed))
    found = lloyd(narrow, spread_greedily(narrow, size, seed), min(iterations, WARM_UP))[2]
    return means(rows, found, size)


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


def spread_greedily(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Like `spread`, but each row is the best of a few: the one that leaves the others nearest to those chosen."""
    chance, draws = np.random.default_rng(seed), 2 + int(np.log(size))
    squares = np.einsum("ij,ij->i", rows, rows)
    chosen = [int(chance.integers(len(rows)))]
    distance = np.maximum(squares - 2 * (rows @ rows[chosen[0]]) + squares[chosen[0]], 0)
    while len(chosen) < size:
        reached = np.cumsum(distance, dtype=np.float64)
        if not reached[-1]:  # every row lies on one that was chosen: any will do
            chosen.append(len(chosen))
            continue
        drawn = np.minimum(np.searchsorted(reached, chance.random(draws) * reached[-1]), len(rows) - 1)
        shorter = np.maximum(squares - 2 * (rows[drawn] @ rows.T) + squares[drawn][:, None], 0)
        np.minimum(shorter, distance, out=shorter)
        best = int(shorter.sum(axis=1).argmin())
        distance = shorter[best]
        chosen.append(int(drawn[best]))
    return rows[chosen]


def principal_components(rows: np.ndarray, width: int, seed: int) -> np.ndarray:
    """The coordinates of ``rows`` along their main directions, by subspace iteration: float32 [rows, width].

    There are fewer columns where the rows have fewer.
    """
    mean = rows.mean(axis=0)
    few = min(width + 8, rows.shape[1])  # a few more than asked make the last ones good
    basis: np.ndarray = np.random.default_rng(seed).standard_normal((rows.shape[1], few)).astype(np.float32)
    for _ in range(3):
        along = rows @ basis
        along -= mean @ basis
        basis = np.linalg.qr(rows.T @ along - np.outer(mean, along.sum(axis=0)))[0]
        del along  # before the next is made
    along = rows @ basis
    along -= mean @ basis
    rotation: np.ndarray = np.linalg.eigh(along.T @ along)[1][:, ::-1]
    return np.asarray(along @ rotation[:, :width])
