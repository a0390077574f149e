"""RQ-KMeans, eqs 4–8: level by level, cluster what the levels before left unexplained."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.capped import balanced_kmeans
from gream_ext.items.kmeans import Start, kmeans, nearest

BLOCK = 4096
"""Rows that are copied at once."""


class Quantisation(NamedTuple):
    """What eqs 4–8 make of a set of vectors."""

    codes: np.ndarray
    """int32 [rows, levels], from 0 (the paper counts from 1)."""
    codebooks: list[np.ndarray]
    """One float32 [size, width] a level: the centroids of eq. 5."""
    errors: list[float]
    """After each level, the mean squared length of the residual."""


def rq_kmeans(
    vectors: np.ndarray,
    sizes: Sequence[int],
    iterations: int = 25,
    restarts: int = 1,
    seed: int = 0,
    balance: float | None = None,
    start: Start = "ladder",
) -> Quantisation:
    """Quantise ``vectors``, float32 [rows, width], with a codebook of ``sizes[l]`` centroids at level l.

    Each level is the best of ``restarts`` runs of k-means with at most ``iterations`` iterations over all rows;
    ``start`` is that of `kmeans`. With ``balance`` no centroid of a level gets more than that many times its even
    share of the rows, so that some rows do not have the nearest one. The same vectors in the same order and the same
    seed give the same result. Raises `GreamError` for vectors that are not finite, for more centroids than rows and
    for a balance below 1.
    """
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise GreamError("RQ-KMeans needs one finite vector a row: embed the items again")
    if max(sizes) > len(vectors):
        raise GreamError(f"a codebook of {max(sizes)} is too large for {len(vectors)} items: set --codebook-size lower")
    if balance is not None and not balance >= 1:
        raise GreamError(f"--balance {balance} leaves some items without a centroid: give 1 or more")

    def cluster(size: int, seed: int) -> tuple[float, np.ndarray, np.ndarray]:
        if balance is None:
            return kmeans(residual, size, iterations, seed, start)
        return balanced_kmeans(residual, size, math.ceil(balance * len(vectors) / size), iterations, seed, start)

    residual = np.array(vectors, dtype=np.float32, order="C")  # eq. 4
    codes = np.empty((len(vectors), len(sizes)), dtype=np.int32)
    codebooks, errors = [], []
    for level, size in enumerate(sizes):
        runs = (cluster(size, seed + 1000 * restart + level) for restart in range(restarts))
        _, codebook, codes[:, level] = min(runs, key=lambda run: run[0])
        take_off(residual, codebook, codes[:, level])
        codebooks.append(codebook)
        errors.append(mean_square(residual))
    return Quantisation(codes, codebooks, errors)


def assign(vectors: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """Codes of ``vectors`` in codebooks that stand, int32 [rows, levels]: eqs 6–7 alone."""
    residual = np.array(vectors, dtype=np.float32, order="C")
    codes = np.empty((len(residual), len(codebooks)), dtype=np.int32)
    for level, codebook in enumerate(codebooks):
        codes[:, level] = nearest(residual, codebook)
        take_off(residual, codebook, codes[:, level])
    return codes


def residuals(vectors: np.ndarray, codes: np.ndarray, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """What the levels of ``codes``, int [rows, levels], leave of ``vectors``: float32 [rows, width]."""
    residual = np.array(vectors, dtype=np.float32, order="C")
    for level in range(codes.shape[1]):
        take_off(residual, codebooks[level], codes[:, level])
    return residual


def take_off(residual: np.ndarray, codebook: np.ndarray, group: np.ndarray) -> None:
    """Eq. 7 in place: subtract each row's centroid."""
    for start in range(0, len(residual), BLOCK):
        part = slice(start, start + BLOCK)
        residual[part] -= codebook[group[part]]


def mean_square(rows: np.ndarray) -> float:
    """The mean squared length of rows."""
    return float(np.einsum("ij,ij->", rows, rows, dtype=np.float64) / len(rows))
