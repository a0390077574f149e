"""RQ-KMeans against a slow reading of eqs 4–8, and the conflict slot."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.errors import GreamError
from gream_ext.items import kmeans
from gream_ext.items.conflict import add_conflict_slot, groups
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.items.rq_kmeans import assign, rq_kmeans


def blobs(rows=240, width=24, kinds=6, seed=0):
    chance = np.random.default_rng(seed)
    centres = 3 * chance.standard_normal((kinds, width))
    return (centres[np.arange(rows) % kinds] + chance.standard_normal((rows, width))).astype(np.float32)


def test_codes_are_the_nearest_centroids_of_the_residuals():
    vectors = blobs()
    made = rq_kmeans(vectors, [6, 4, 3])
    for row, codes in zip(vectors, made.codes, strict=True):
        residual = row.astype(np.float64)
        for codebook, code in zip(made.codebooks, codes, strict=True):
            distances = ((residual - codebook) ** 2).sum(axis=1)
            assert distances[code] <= distances.min() + 1e-4
            residual = residual - codebook[code]
    rest = vectors - sum(codebook[codes] for codebook, codes in zip(made.codebooks, made.codes.T, strict=True))
    assert made.errors[-1] == pytest.approx((rest**2).sum(axis=1).mean(), rel=1e-4)
    assert made.errors == sorted(made.errors, reverse=True)
    assert made.codes.dtype == np.int32
    assert [codebook.shape for codebook in made.codebooks] == [(6, 24), (4, 24), (3, 24)]


def test_first_level_finds_the_blobs():
    codes = rq_kmeans(blobs(), [6], restarts=3).codes[:, 0]
    assert len(set(zip((np.arange(240) % 6).tolist(), codes.tolist(), strict=True))) == 6


def test_centroids_are_spread_in_many_dimensions():
    # Rows without any structure: k-means from single rows gives most of them to one centroid.
    vectors = np.random.default_rng(0).standard_normal((600, 300)).astype(np.float32)
    counts = np.bincount(rq_kmeans(vectors, [16]).codes[:, 0], minlength=16)
    assert counts.max() < 120


def test_rows_on_one_another_have_a_start():
    made = rq_kmeans(np.ones((9, 3), np.float32), [4, 2], start="components")
    assert made.errors[-1] < 1e-9


def test_many_rows_start_from_a_part_of_them(monkeypatch):
    vectors = blobs(rows=2000, kinds=8)
    whole = rq_kmeans(vectors, [8, 8]).errors
    monkeypatch.setattr(kmeans, "WARM_UP_ROWS", 300)
    monkeypatch.setattr(kmeans, "WARM_UP_ROWS_PER_CENTROID", 20)
    first, second = (rq_kmeans(vectors, [8, 8], seed=1) for _ in range(2))
    assert (first.codes == second.codes).all() and first.errors[-1] < 1.03 * whole[-1]


@pytest.mark.parametrize("start", ["ladder", "components"])
def test_same_seed_same_codes(start):
    vectors = blobs()
    first, second = (rq_kmeans(vectors, [8, 8], seed=3, start=start) for _ in range(2))
    assert (first.codes == second.codes).all()
    assert all((a == b).all() for a, b in zip(first.codebooks, second.codebooks, strict=True))


def test_restarts_do_not_harm():
    vectors = blobs(kinds=12)
    assert rq_kmeans(vectors, [12], restarts=4).errors[0] <= rq_kmeans(vectors, [12]).errors[0] + 1e-5


def test_restarts_are_different_runs_of_which_the_best_is_kept():
    vectors = np.random.default_rng(0).standard_normal((200, 20)).astype(np.float32)
    gained = [
        rq_kmeans(vectors, [12], 5, seed=seed).errors[0] - rq_kmeans(vectors, [12], 5, restarts=4, seed=seed).errors[0]
        for seed in range(4)
    ]
    assert min(gained) >= -1e-6 and max(gained) > 1e-3


def test_levels_start_from_seeds_of_their_own(monkeypatch):
    seen = []
    real = kmeans.kmeans
    monkeypatch.setattr("gream_ext.items.rq_kmeans.kmeans", lambda *a: seen.append(a[3]) or real(*a))
    rq_kmeans(blobs(), [6, 6, 6], restarts=3)
    assert len(set(seen)) == 9


def test_assign_gives_the_items_their_own_codes():
    vectors = blobs()
    made = rq_kmeans(vectors, [6, 4])
    assert (assign(vectors, made.codebooks) == made.codes).all()


def test_as_many_centroids_as_rows():
    vectors = blobs(rows=5)
    assert len(set(rq_kmeans(vectors, [5]).codes[:, 0].tolist())) == 5
    with pytest.raises(GreamError, match="a codebook of 6 is too large for 5 items"):
        rq_kmeans(vectors, [6])


def test_refuses_what_is_not_finite():
    vectors = blobs()
    vectors[3, 2] = np.nan
    with pytest.raises(GreamError, match="one finite vector a row"):
        rq_kmeans(vectors, [4])


rows = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)


@given(rows)
def test_groups_are_the_obvious_ones(codes):
    group, members = groups(np.array(codes))
    counted = Counter(codes)
    assert [members[number] for number in group] == [counted[row] for row in codes]
    assert len(set(group.tolist())) == len(counted) == len(members)
    assert [row for _, row in sorted(zip(group.tolist(), codes, strict=True))] == sorted(codes)


@pytest.mark.parametrize("slot", ["always", "colliding"])
@given(codes=rows)
def test_conflict_slot_makes_every_identifier_unique(slot, codes):
    slotted, sizes = add_conflict_slot(np.array(codes), [3, 3], slot)
    ItemIndex(tuple(map(str, range(len(codes)))), slotted, sizes)  # refuses duplicates and prefixes
    assert (slotted[:, :2] == np.array(codes)).all()
    counted = Counter(codes)
    for place, (row, code) in enumerate(zip(codes, slotted[:, 2].tolist(), strict=True)):
        if slot == "colliding" and counted[row] == 1:
            assert code == NO_CODE
        else:
            assert code == codes[:place].count(row)
    assert sizes[-1] >= 2 * max(counted.values())


def test_conflict_slot_sizes():
    codes = np.zeros((5, 1), dtype=np.int32)
    assert add_conflict_slot(codes, [1])[1] == (1, 16)
    assert add_conflict_slot(codes, [1], slot_size=5)[1] == (1, 5)
    with pytest.raises(GreamError, match="--slot-size 4 is too small: 5 items have the same codes"):
        add_conflict_slot(codes, [1], slot_size=4)
    with pytest.raises(GreamError, match="1 groups of items have the same codes, the largest of 5"):
        add_conflict_slot(codes, [1], "none")
    alone = np.arange(3).reshape(3, 1)
    assert add_conflict_slot(alone, [3], "none")[1] == (3,)
