"""Capped clusters and last-level reassignment beside slow, obvious references."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gream_ext.errors import GreamError
from gream_ext.items import capped
from gream_ext.items.capped import balanced_kmeans, capped_assignment
from gream_ext.items.conflict import reassign_last_level
from gream_ext.items.rq_kmeans import rq_kmeans


def assign(costs, cap):
    candidates = costs.argsort(axis=1, kind="stable")
    return capped_assignment(np.take_along_axis(costs, candidates, axis=1), candidates, costs.shape[1], cap)


def test_close_to_the_cheapest_of_all_assignments():
    rng = np.random.default_rng(0)
    paid = best = 0.0
    for _ in range(50):
        costs = rng.random((6, 3), dtype=np.float32)
        chosen = assign(costs, 2)
        assert np.bincount(chosen, minlength=3).tolist() == [2, 2, 2]
        paid += costs[np.arange(6), chosen].sum()
        best += min(costs[np.arange(6), list(order)].sum() for order in set(permutations([0, 0, 1, 1, 2, 2])))
    assert paid < 1.1 * best


def test_who_would_lose_most_gets_in():
    # All want cluster 0, which takes one: the second would pay 9 more elsewhere.
    costs = np.array([[0, 1, 5], [0, 9, 9], [0, 2, 3]], np.float32)
    assert assign(costs, 1).tolist() == [1, 0, 2]


@given(costs=arrays(np.float32, (9, 4), elements=st.floats(0, 10, width=16)), cap=st.integers(3, 9))
def test_never_above_the_cap(costs, cap):
    assert np.bincount(assign(costs, cap)).max() <= cap
    if cap == 9:
        assert (costs[np.arange(9), assign(costs, cap)] == costs.min(axis=1)).all()


def test_rows_on_top_of_one_another_end():
    assert sorted(np.bincount(assign(np.zeros((40, 4), np.float32), 10)).tolist()) == [10] * 4
    costs = np.full((60, 3), 1e4, np.float32)
    costs[:, 0] = 1e-3
    assert np.bincount(assign(costs, 20)).tolist() == [20, 20, 20]
    with pytest.raises(GreamError, match="60 rows do not fit into 3 clusters of at most 19"):
        assign(costs, 19)


def test_rows_whose_candidates_are_full_go_where_there_is_room():
    costs, candidates = np.zeros((8, 1), np.float32), np.zeros((8, 1), np.int32)
    assert np.bincount(capped_assignment(costs, candidates, 4, 2), minlength=4).tolist() == [2, 2, 2, 2]


def lopsided(rows=300, width=20):
    chance = np.random.default_rng(0)
    centres = 5 * chance.standard_normal((6, width))
    kinds = np.minimum(chance.geometric(0.5, rows) - 1, 5)
    return (centres[kinds] + chance.standard_normal((rows, width))).astype(np.float32)


def test_balanced_clusters_keep_to_the_cap():
    rows = lopsided()
    _, centroids, group = balanced_kmeans(rows, 6, 60, 10, 0)
    assert np.bincount(group).max() <= 60
    np.testing.assert_allclose(centroids[2], rows[group == 2].mean(axis=0), atol=1e-4)
    made = rq_kmeans(rows, [6, 6], balance=1.2)
    assert all(np.bincount(level).max() <= 60 for level in made.codes.T)
    assert np.bincount(rq_kmeans(rows, [6]).codes[:, 0]).max() > 60
    with pytest.raises(GreamError, match=r"--balance 0\.5 leaves some items without a centroid"):
        rq_kmeans(rows, [6], balance=0.5)


def test_more_iterations_are_never_worse():
    rows = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    reached = [balanced_kmeans(rows, 40, 11, iterations, 0)[0] for iterations in (1, 2, 4, 8, 16)]
    for objective, centroids, group in [balanced_kmeans(rows, 40, 11, 16, 0)]:
        assert objective == pytest.approx(((rows - centroids[group]) ** 2).sum(), rel=1e-4)
    assert min(reached) > 0 and reached[-1] <= reached[0]


def test_with_few_candidates_it_is_almost_as_good(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((400, 8)).astype(np.float32)
    full = balanced_kmeans(rows, 40, 11, 5, 0)[0]
    monkeypatch.setattr(capped, "CANDIDATES", 8)
    few, _, group = balanced_kmeans(rows, 40, 11, 5, 0)
    assert np.bincount(group).max() <= 11 and few < 1.1 * full


def test_reassignment_parts_all_where_there_is_room():
    vectors = lopsided()
    vectors[50:56] = vectors[49]
    made = rq_kmeans(vectors, [6, 4, 16])
    assert len(np.unique(made.codes, axis=0)) < 300
    again = reassign_last_level(vectors, made.codes, made.codebooks)
    _, sizes = np.unique(again.codes[:, :2], axis=0, return_counts=True)
    crowded = {codes for codes, _ in again.crowded}
    assert crowded == {tuple(codes) for codes in np.unique(made.codes[:, :2], axis=0)[sizes > 16].tolist()}
    for prefix in np.unique(made.codes[:, :2], axis=0):
        below = again.codes[(again.codes[:, :2] == prefix).all(axis=1)]
        counts = np.unique(below[:, 2], return_counts=True)[1]
        assert counts.max() == max(1, -(-len(below) // 16))
    assert (again.codes[:, :2] == made.codes[:, :2]).all()
    assert again.moved == (again.codes != made.codes).any(axis=1).sum() > 0


def test_reassignment_touches_nothing_that_does_not_collide():
    vectors = np.array([[0.0], [1.0], [5.0], [5.01]], np.float32)
    codes = np.array([[0, 0], [0, 1], [1, 1], [1, 1]], np.int32)
    books = [np.array([[0.0], [4.0]], np.float32), np.array([[0.0], [1.0]], np.float32)]
    again = reassign_last_level(vectors, codes, books)
    assert again.codes.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]] and again.crowded == []
    crowd = reassign_last_level(vectors[[2, 3, 3]], codes[[2, 2, 2]], books)
    assert crowd.crowded == [((1,), 3)] and np.bincount(crowd.codes[:, 1]).max() == 2
    alone = reassign_last_level(vectors[:2], np.array([[1], [1]], np.int32), books[1:])
    assert alone.codes.tolist() == [[0], [1]]
