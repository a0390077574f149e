"""RQ-KMeans, eqs 4–8: level by level, cluster what the levels before left unexplained."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gream_ext.errors import GreamError

ROWS_AT_ONCE = 65536
WARM_UP_WIDTHS = (8, 16, 32, 64)
"""Principal components in which k-means is run before it is run in full width."""


@dataclass(frozen=True)
class Quantisation:
    """What eqs 4–8 make of a set of vectors."""

    codes: np.ndarray
    """int32 [rows, levels], from 0 (the paper counts from 1)."""
    codebooks: list[np.ndarray]
    """One float32 [size, width] a level: the centroids of eq. 5."""
    errors: list[float]
    """After each level, the mean squared length of the residual."""


def rq_kmeans(
    vectors: np.ndarray, sizes: Sequence[int], iterations: int = 25, restarts: int = 1, seed: int = 0
) -> Quantisation:
    """Quantise ``vectors``, float32 [rows, width], with a codebook of ``sizes[l]`` centroids at level l.

    Each level is the best of ``restarts`` runs of k-means with ``iterations`` iterations over all rows. The same
    vectors in the same order and the same seed give the same result. Raises `GreamError` for vectors that are not
    finite and for more centroids than rows.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise GreamError("RQ-KMeans needs one finite vector a row: embed the items again")
    if max(sizes) > len(vectors):
        raise GreamError(f"a codebook of {max(sizes)} is too large for {len(vectors)} items: set --codebook-size lower")
    residual = np.array(vectors, dtype=np.float32, order="C")  # eq. 4
    codes = np.empty((len(vectors), len(sizes)), dtype=np.int32)
    codebooks, errors = [], []
    for level, size in enumerate(sizes):
        seeds = [seed + 1000 * restart + level for restart in range(restarts)]
        _, codebook = min((_kmeans(residual, size, iterations, one) for one in seeds), key=lambda run: run[0])
        codes[:, level] = _step(residual, codebook)
        codebooks.append(codebook)
        errors.append(float(np.einsum("ij,ij->", residual, residual, dtype=np.float64) / len(residual)))
    return Quantisation(codes, codebooks, errors)


def assign(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Codes of ``vectors`` in codebooks that stand, int32 [rows, levels]: eqs 6–7 alone."""
    residual = np.array(vectors, dtype=np.float32, order="C")
    return np.stack([_step(residual, codebook) for codebook in codebooks], axis=1).astype(np.int32)


def _kmeans(rows: np.ndarray, size: int, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """Eq. 5: the objective that was reached and the centroids, float32 [size, width].

    Started from single rows, as usual, k-means fails on residuals: in many dimensions all of them are about as far
    from one another, so the centroid that happens to lie nearest the middle takes most rows and the others keep
    their own. So it is started from the clusters found in a few principal components (there with k-means++), then in
    more and more of them.
    """
    components = _principal_components(rows, max(WARM_UP_WIDTHS), seed)
    group: np.ndarray = np.empty(0, dtype=np.int32)
    for step, width in enumerate(WARM_UP_WIDTHS):
        narrow = np.ascontiguousarray(components[:, :width])
        start = _means(narrow, group, size) if step else _spread(narrow, size, seed)
        group = _nearest(narrow, _lloyd(narrow, start, iterations, seed)[1])
        if width >= components.shape[1]:
            break
    return _lloyd(rows, _means(rows, group, size), iterations, seed)


def _lloyd(rows: np.ndarray, start: np.ndarray, iterations: int, seed: int) -> tuple[float, np.ndarray]:
    """K-means from the centroids ``start``: the objective and the centroids."""
    kmeans: Any = _faiss().Kmeans(
        rows.shape[1],
        len(start),
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(rows),  # faiss would train on a sample
    )
    kmeans.train(rows, init_centroids=start)
    return float(kmeans.obj[-1]), np.array(kmeans.centroids, dtype=np.float32).reshape(start.shape)


def _spread(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
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


def _principal_components(rows: np.ndarray, width: int, seed: int) -> np.ndarray:
    """The coordinates of ``rows`` along their main directions, by subspace iteration: float32 [rows, width]."""
    mean = rows.mean(axis=0)
    few = min(width + 8, rows.shape[1])  # a few more than asked make the last ones good
    basis: np.ndarray = np.random.default_rng(seed).standard_normal((rows.shape[1], few)).astype(np.float32)
    for _ in range(3):
        along = rows @ basis - mean @ basis
        basis = np.linalg.qr(rows.T @ along - np.outer(mean, along.sum(axis=0)))[0]
    along = rows @ basis - mean @ basis
    rotation: np.ndarray = np.linalg.eigh(along.T @ along)[1][:, ::-1]
    return along @ rotation[:, :width]


def _means(rows: np.ndarray, group: np.ndarray, size: int) -> np.ndarray:
    """The mean of the rows of each group, float32 [size, width]; 0 for an empty one."""
    sums = np.zeros((size, rows.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        order = np.argsort(group[part], kind="stable")
        present, first = np.unique(group[part][order], return_index=True)
        sums[present] += np.add.reduceat(rows[part][order], first, axis=0)
    return sums / np.maximum(np.bincount(group, minlength=size), 1)[:, None].astype(np.float32)


def _nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row (eq. 6), int32 [rows]."""
    index = _faiss().IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    nearest = np.empty(len(rows), dtype=np.int32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        nearest[part] = index.search(rows[part], 1)[1][:, 0]
    return nearest


def _step(residual: np.ndarray, codebook: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row (eq. 6), which is then taken off ``residual`` in place (eq. 7)."""
    nearest = _nearest(residual, codebook)
    for start in range(0, len(residual), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        residual[part] -= codebook[nearest[part]]
    return nearest


def _faiss() -> Any:
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which variants of itself it does not find
    import faiss

    return faiss
