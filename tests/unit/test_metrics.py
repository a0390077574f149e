"""Figures against hand-computed values, slow references, and libraries where they are installed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.evaluation.metrics import (
    MISSED,
    bootstrap,
    first_k,
    ndcg_at,
    paired,
    pass_at_k,
    ranks,
    recall_at,
)

cases = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.permutations(list("abcdefgh")).map(lambda items: items[:6])), min_size=1
)


def test_by_hand():
    places = ranks(["a", "b", "c", "z", "q"], [["a", "x"], ["x", "b"], ["x", "y", "c"], ["x"], []])
    assert places.tolist() == [0, 1, 2, MISSED, MISSED]
    assert recall_at(places, 1).tolist() == [1, 0, 0, 0, 0]
    assert recall_at(places, 2).tolist() == [1, 1, 0, 0, 0]
    np.testing.assert_allclose(ndcg_at(places, 3), [1, 1 / math.log2(3), 0.5, 0, 0])
    np.testing.assert_allclose(ndcg_at(places, 1), [1, 0, 0, 0, 0])


@given(cases, st.integers(1, 8))
def test_against_the_definitions(rows, cutoff):
    targets, lists = [target for target, _ in rows], [items for _, items in rows]
    places = ranks(targets, lists)
    for user, (target, items) in enumerate(rows):
        assert recall_at(places, cutoff)[user] == (target in items[:cutoff])
        gains = [(item == target) / math.log2(place + 2) for place, item in enumerate(items[:cutoff])]
        assert ndcg_at(places, cutoff)[user] == pytest.approx(sum(gains))


@given(st.integers(1, 9), st.data())
def test_pass_at_k_is_the_mean_over_all_choices_of_k(samples, data):
    outcomes = np.array(data.draw(st.lists(st.booleans(), min_size=samples, max_size=samples)))
    k = data.draw(st.integers(1, samples))
    slow = np.mean([any(choice) for choice in itertools.combinations(outcomes.tolist(), k)])
    assert pass_at_k(np.array([outcomes.sum()]), samples, k)[0] == pytest.approx(slow)


@given(st.integers(1, 200), st.data())
def test_pass_at_k_equals_the_binomials(samples, data):
    k, correct = data.draw(st.integers(1, samples)), data.draw(st.integers(0, samples))
    exact = 1 - math.comb(samples - correct, k) / math.comb(samples, k)
    assert pass_at_k(np.array([correct]), samples, k)[0] == pytest.approx(exact, abs=1e-12)


def test_first_k_reads_them_in_order():
    correct = np.array([[False, True, False], [True, False, False], [False, False, True]])
    assert first_k(correct, 1).tolist() == [0, 1, 0]
    assert first_k(correct, 2).tolist() == [1, 1, 0]
    assert first_k(correct, 3).tolist() == [1, 1, 1]


def test_what_cannot_be_computed_is_refused():
    for call in (
        lambda: pass_at_k(np.array([1]), 10, 11),
        lambda: pass_at_k(np.array([1]), 10, 0),
        lambda: pass_at_k(np.array([11]), 10, 1),
        lambda: first_k(np.zeros((2, 3), bool), 4),
        lambda: recall_at(np.array([0]), 0),
        lambda: bootstrap(np.array([])),
        lambda: paired(np.zeros(3), np.zeros(4)),
    ):
        with pytest.raises(ValueError):
            call()


def test_the_bootstrap_interval_is_the_normal_one_for_many_users():
    values = np.random.default_rng(1).random(4_000) < 0.3
    interval = bootstrap(values)
    assert interval.mean == values.mean()
    assert interval.standard_error == pytest.approx(math.sqrt(interval.mean * (1 - interval.mean) / 3_999))
    assert interval.low == pytest.approx(interval.mean - 1.96 * interval.standard_error, abs=2e-3)
    assert interval.high == pytest.approx(interval.mean + 1.96 * interval.standard_error, abs=2e-3)
    assert bootstrap(values) == interval and bootstrap(values, seed=1) != interval


def test_the_bootstrap_resamples_users():
    values = np.array([0.0, 0.0, 1.0, 4.0])
    drawn = np.random.default_rng(0).integers(0, 4, (200_000, 4))
    slow = np.quantile(values[drawn].mean(1), [0.025, 0.975])
    interval = bootstrap(values, resamples=200_000)
    assert (interval.low, interval.high) == pytest.approx(tuple(slow), abs=0.02)
    assert bootstrap(np.array([2.0, 2.0])).low == 2.0 == bootstrap(np.array([2.0])).high


def test_pairing_takes_out_what_users_have_in_common():
    generator = np.random.default_rng(0)
    users = generator.normal(size=500)
    first, second = users + generator.normal(scale=0.01, size=500), users + 0.005
    found = paired(first, second)
    assert found.users == 500
    assert found.difference == pytest.approx(np.mean(second - first))
    assert found.standard_error == pytest.approx(np.std(second - first, ddof=1) / math.sqrt(500))
    assert found.low < found.difference < found.high
    assert found.low > 0 > bootstrap(second).mean - bootstrap(second).standard_error


def test_the_same_figures_as_torchmetrics():
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    import torch

    generator = np.random.default_rng(0)
    places = generator.integers(-1, 12, 60)
    scores = torch.from_numpy(np.tile(20 - np.arange(12.0), (60, 1)).ravel())  # it counts positive ones only
    relevant = torch.from_numpy((np.arange(12) == places[:, None]).ravel())
    users = torch.arange(60).repeat_interleave(12)
    for cutoff in (1, 5, 10):
        recall = retrieval.RetrievalRecall(top_k=cutoff, empty_target_action="neg")(scores, relevant, indexes=users)
        ndcg = retrieval.RetrievalNormalizedDCG(top_k=cutoff)(scores, relevant, indexes=users)
        assert recall_at(places, cutoff).mean() == pytest.approx(float(recall), abs=1e-6)
        assert ndcg_at(places, cutoff).mean() == pytest.approx(float(ndcg), abs=1e-6)


@given(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=40), st.integers(0, 3))
def test_an_interval_holds_its_mean_and_grows_with_its_level(values, seed):
    narrow, wide = (bootstrap(np.array(values), level, seed=seed) for level in (0.5, 0.99))
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.low - 1e-9 <= wide.mean <= wide.high + 1e-9
    turned = bootstrap(np.array(values)[::-1], 0.5, seed=seed)
    assert (turned.low, turned.high) == (narrow.low, narrow.high), "the order of users is none of its business"


def test_swapping_what_is_compared_turns_the_sign():
    generator = np.random.default_rng(3)
    first, second = generator.random(300), generator.random(300) + 0.1
    there, back = paired(first, second), paired(second, first)
    assert (there.difference, there.standard_error) == pytest.approx((-back.difference, back.standard_error))
    assert 0 < there.low < there.difference < there.high
    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=0.01)
