"""Which centroid is nearest to a row: once, and while the centroids move."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

ROWS_AT_ONCE = 65536
BLOCK = 2048
"""Rows whose distances to all centroids are held at once."""
SLACK = 1e-4
"""How close two distances must be, as a share of the rows' mean length, to be computed rather than trusted."""


def nearest(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row (eq. 6), int32 [rows]."""
    index = faiss_module().IndexFlatL2(centroids.shape[1])
    index.add(np.ascontiguousarray(centroids, dtype=np.float32))
    found = np.empty(len(rows), dtype=np.int32)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        found[part] = index.search(np.ascontiguousarray(rows[part], dtype=np.float32), 1)[1][:, 0]
    return found


class Assignment:
    """The nearest centroid of each row, kept up while the centroids move.

    ``place``, int32 [rows], is the nearest centroid, ``near`` an upper bound of the distance to it, ``next`` a lower
    bound of the distance to any other, float32 [rows]. When centroids move, those that move most are compared with
    all rows, and by how far the others may have come nearer is taken off ``next``; only rows whose bounds then cross
    are compared with every centroid (after Hamerly, 2010). The result is that of comparing all with all, but for
    ties in float32.
    """

    def __init__(self, rows: np.ndarray, centroids: np.ndarray) -> None:
        self.rows = rows
        self.squares = np.einsum("ij,ij->i", rows, rows)
        self.slack = SLACK * float(np.sqrt(self.squares.mean(dtype=np.float64)))
        self.place = np.empty(len(rows), dtype=np.int32)
        self.near = np.empty(len(rows), dtype=np.float32)
        self.next = np.empty(len(rows), dtype=np.float32)
        self._compare_all(np.arange(len(rows)), centroids)

    def move(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take the centroids from ``before`` to ``after``: the rows that have another one now, and which they had."""
        shift = np.sqrt(((after - before) ** 2).sum(axis=1))
        self.near += shift[self.place]
        movers, rest = self._movers(shift)
        self.next -= rest
        crossed = self.near + self.slack >= self.next
        if len(movers) and not crossed.all():
            nearer = self._nearest_of(after[movers])
            crossed |= nearer < self.near + self.slack
            np.minimum(self.next, nearer, out=self.next)
        found = np.flatnonzero(crossed)
        old = self.place[found]
        self._compare_all(found, after)
        changed = old != self.place[found]
        return found[changed], old[changed]

    def objective(self, centroids: np.ndarray) -> float:
        """The sum of the squared distances from each row to its centroid."""
        return objective(self.rows, centroids, self.place)

    def _movers(self, shift: np.ndarray) -> tuple[np.ndarray, float]:
        """The centroids to compare with every row, such that least is computed, and how far the others moved."""
        order = np.argsort(-shift, kind="stable")
        left = np.append(shift[order], 0.0)  # the farthest move after so many are taken out
        gaps = np.sort(self.next - self.near - self.slack)
        cost = np.arange(len(left)) * len(gaps) + np.searchsorted(gaps, left, side="right") * len(shift)
        many = int(cost.argmin())
        return order[:many], float(left[many])

    def _compare_all(self, found: np.ndarray, centroids: np.ndarray) -> None:
        """Places and exact bounds for the rows ``found``."""
        scores = scores_of(centroids)
        whole = len(found) == len(self.rows)
        for start in range(0, len(found), BLOCK):
            part: Any = slice(start, start + BLOCK) if whole else found[start : start + BLOCK]
            score = scores(self.rows[part])
            place = score.argmin(axis=1)
            here = np.arange(len(place))
            self.place[part] = place
            self.near[part] = self._distance(score[here, place], part)
            score[here, place] = np.inf
            self.next[part] = self._distance(score.min(axis=1), part)

    def _nearest_of(self, centroids: np.ndarray) -> np.ndarray:
        """The distance of each row to the nearest of some centroids."""
        scores = scores_of(centroids)
        found = np.empty(len(self.rows), dtype=np.float32)
        for start in range(0, len(found), BLOCK):
            part = slice(start, start + BLOCK)
            found[part] = self._distance(scores(self.rows[part]).min(axis=1), part)
        return found

    def _distance(self, score: np.ndarray, part: Any) -> np.ndarray:
        return np.asarray(np.sqrt(np.maximum(score + self.squares[part], 0)))


def objective(rows: np.ndarray, centroids: np.ndarray, group: np.ndarray) -> float:
    """The sum of the squared distances from each row to the centroid of its group."""
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        away = rows[part] - centroids[group[part]]
        total += float(np.einsum("ij,ij->", away, away, dtype=np.float64))
    return total


def scores_of(centroids: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from rows to their squared distances to ``centroids`` less their own squares, [rows, centroids]."""
    import torch  # whose matrix product is faster than numpy's on most processors

    factor = torch.from_numpy(np.ascontiguousarray(-2 * centroids.T))
    norms = torch.from_numpy(np.einsum("ij,ij->i", centroids, centroids))
    return lambda rows: torch.addmm(norms, torch.from_numpy(rows), factor).numpy()


def faiss_module() -> Any:
    """faiss, which would otherwise log which variants of itself it does not find."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    import faiss

    return faiss
