"""Lloyd's k-means with bounds beside the one that computes every distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gream_ext.items.lloyd import lloyd, means
from gream_ext.items.nearest import Assignment, nearest


def slow_nearest(rows, centroids):
    return ((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)


def slow_lloyd(rows, centroids, iterations):
    for _ in range(iterations):
        group = slow_nearest(rows, centroids)
        centroids = np.stack([rows[group == code].mean(axis=0) for code in range(len(centroids))])
    return centroids, slow_nearest(rows, centroids)


def spread_rows(rows=300, width=70, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0, 2), st.floats(0, 0.05))
def test_assignment_keeps_up_with_any_move(seed, far, little):
    rows, chance = spread_rows(seed=seed), np.random.default_rng(seed)
    centroids = rows[:12].copy()
    watch = Assignment(rows, centroids)
    for _ in range(4):
        moved = centroids + little * chance.standard_normal(centroids.shape)
        moved[chance.integers(12)] += far
        moved = moved.astype(np.float32)
        before = watch.place.copy()
        changed, old = watch.move(centroids, moved)
        assert (watch.place == slow_nearest(rows, moved)).all()
        assert (changed == np.flatnonzero(before != watch.place)).all() and (old == before[changed]).all()
        centroids = moved


@pytest.mark.parametrize("width", [5, 20, 70])
def test_like_the_obvious_one(width):
    rows = spread_rows(width=width)
    start = rows[:6].copy()
    for iterations in (1, 7, 60):
        objective, centroids, group = lloyd(rows, start, iterations)
        slow, place = slow_lloyd(rows, start, iterations)
        np.testing.assert_allclose(centroids, slow, atol=1e-4)
        assert (group == place).all() and group.dtype == np.int32 and centroids.dtype == np.float32
        earlier = slow_lloyd(rows, start, iterations - 1)[0]
        assert objective == pytest.approx(((rows - earlier[slow_nearest(rows, earlier)]) ** 2).sum(), rel=1e-4)


@pytest.mark.parametrize("width", [20, 70])
def test_no_centroid_stays_empty(width):
    rows = spread_rows(width=width)
    start = rows[:6].copy()
    start[4:] += 1000
    _, centroids, group = lloyd(rows, start, 30)
    assert (np.bincount(group, minlength=6) > 0).all()
    assert (group == nearest(rows, centroids)).all()


def test_means_by_hand():
    rows = np.array([[0.0, 2.0], [4.0, 0.0], [2.0, 2.0]], np.float32)
    assert means(rows, np.array([0, 2, 0]), 3).tolist() == [[1, 2], [0, 0], [4, 0]]
