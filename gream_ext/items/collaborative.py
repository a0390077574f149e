"""Vectors of what users do, beside those of what texts say: which items stand near each other in training histories."""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from gream_ext.data.co_occurrence import item_pair_counts

DIMENSIONS = 64


def collaborative_vectors(histories: Iterable[Sequence[str]], item_ids: Sequence[str], seed: int = 0) -> np.ndarray:
    """float32 [items, at most 64]: UΣ^½ of a truncated singular value decomposition of `ppmi`.

    ``histories`` are training histories, item ids oldest first. Items without a neighbour in them have zeros. The same
    for the same ``seed``.
    """
    row = {item: number for number, item in enumerate(item_ids)}
    matrix, dimensions = ppmi(item_pair_counts(histories, row)), min(DIMENSIONS, len(row) - 1)
    if dimensions < 1 or not matrix.nnz:
        return np.zeros((len(row), 1), dtype=np.float32)
    start = np.random.default_rng(seed).standard_normal(len(row))
    left, values, _ = svds(matrix, k=dimensions, v0=start)
    return np.ascontiguousarray(left[:, ::-1] * np.sqrt(np.maximum(values[::-1], 0)), dtype=np.float32)


def ppmi(counts: csr_array) -> csr_array:
    """Positive pointwise mutual information, max(0, log n(a, b)·n / (n(a)·n(b))), of symmetric pair counts.

    >>> ppmi(csr_array([[0.0, 2.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]])).toarray().round(3).tolist()
    [[0.0, 0.693, 0.0], [0.693, 0.0, 0.693], [0.0, 0.693, 0.0]]
    """
    found = counts.tocoo()
    totals = np.asarray(counts.sum(axis=1)).ravel()
    data = np.log(found.data * totals.sum() / (totals[found.row] * totals[found.col]))
    made = csr_array((np.maximum(data, 0), (found.row, found.col)), shape=counts.shape)
    made.eliminate_zeros()
    return made


def beside(vectors: np.ndarray, others: np.ndarray, weight: float) -> np.ndarray:
    """``vectors`` and right of them ``others`` with ``weight`` times as much spread, float32 [items, both widths].

    Spread is the root of the mean squared distance from the mean; at weight 1 both streams count alike in
    RQ-KMeans's distances.
    """
    vectors, others = np.asarray(vectors, dtype=np.float32), others - others.mean(axis=0)
    spread = np.sqrt(((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean())
    own = np.sqrt((others**2).sum(axis=1).mean())
    return np.hstack([vectors, others * (weight * spread / own if own else 0.0)]).astype(np.float32)
