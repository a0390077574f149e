"""K-means beside the obvious one, and what it starts from."""

import numpy as np
import pytest

from gream_ext.items.kmeans import kmeans, lloyd, means, nearest, nearest_few, principal_components


def slow_nearest(rows, centroids):
    return ((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2).argmin(axis=1)


def slow_lloyd(rows, centroids, iterations):
    for _ in range(iterations):
        group = slow_nearest(rows, centroids)
        centroids = np.stack([rows[group == code].mean(axis=0) for code in range(len(centroids))])
    return centroids, slow_nearest(rows, centroids)


def spread_rows(rows=300, width=70, seed=0):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


@pytest.mark.parametrize("width", [5, 20, 70])
def test_like_the_obvious_one(width):
    rows = spread_rows(width=width)
    start = rows[:6].copy()
    for iterations in (1, 7, 60):
        objective, centroids = lloyd(rows, start, iterations)
        group = nearest(rows, centroids)
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
    group = nearest(rows, lloyd(rows, start, 30)[1])
    assert (np.bincount(group, minlength=6) > 0).all()


def test_means_by_hand():
    rows = np.array([[0.0, 2.0], [4.0, 0.0], [2.0, 2.0]], np.float32)
    assert means(rows, np.array([0, 2, 0]), 3).tolist() == [[1, 2], [0, 0], [4, 0]]


def test_the_nearest_few_in_their_order(monkeypatch):
    rows, centroids = spread_rows(), spread_rows(40, seed=1)
    monkeypatch.setattr("gream_ext.items.kmeans.BLOCK", 100)
    distances, found = nearest_few(rows, centroids, 5)
    slow = ((rows[:, None].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances, np.sort(slow, axis=1)[:, :5], rtol=1e-4)
    assert (found == slow.argsort(axis=1)[:, :5]).all() and found.dtype == np.int32


def test_principal_components_keep_what_varies_most():
    rows = spread_rows(width=30) * np.linspace(3, 0.1, 30, dtype=np.float32)
    found = principal_components(rows, 4)
    centred = rows - rows.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False)[:4] ** 2
    np.testing.assert_allclose((found**2).sum(axis=0), variances, rtol=1e-3)
    assert principal_components(rows[:3], 10).shape == (3, 3) and principal_components(rows[:, :2], 10).shape == (
        300,
        2,
    )


@pytest.mark.parametrize("start", ["ladder", "components"])
def test_another_seed_is_another_start(start):
    rows = spread_rows()
    found = [kmeans(rows, 12, 5, seed, start)[0] for seed in range(4)]
    assert len(set(found)) == 4


def test_every_row_takes_part_however_many():
    rows = spread_rows(3000, 4)
    start = rows[:4].copy()
    expected = means(rows, slow_nearest(rows, start), 4)
    np.testing.assert_allclose(lloyd(rows, start, 1)[1], expected, atol=1e-4)
