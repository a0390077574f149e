"""The curriculum: the paper's equation, the order of batches, and the rows in them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.curriculum import (
    ALIGN,
    CURRICULUM,
    FILLED,
    LEFTOVER,
    MIXED,
    REASON,
    UNIFORM,
    Curriculum,
    CurriculumSampler,
    CurriculumSettings,
    curriculum_epoch,
    expected_insertions,
    insertion_probability,
    uniform_epoch,
)
from gream_ext.errors import GreamError

COUNTS = st.integers(0, 40)
SEEDS = st.integers(0, 10_000)


def slow_epoch(n_align: int, n_reason: int, gamma: float, draws: list[float]) -> list[tuple[str, int]]:
    """Section 4.3 read aloud: (kind, phase) of each batch."""
    order, left = [], n_reason
    for i in range(1, n_align + 1):
        order.append(("align", CURRICULUM))
        if left and draws[i - 1] < min(1, gamma * (i / n_align) * (n_reason / n_align)):
            order.append(("reason", CURRICULUM))
            left -= 1
    return order + [("reason", LEFTOVER)] * left


@pytest.mark.parametrize(
    ("i", "n_align", "n_reason", "gamma", "expected"),
    [
        (1, 10_000, 3_000, 1.5, 0.000045),
        (5_000, 10_000, 3_000, 1.5, 0.225),
        (10_000, 10_000, 3_000, 1.5, 0.45),
        (50, 100, 100, 2.0, 1.0),
        (100, 100, 100, 1.5, 1.0),  # 1.5 before min
        (7, 10, 0, 1.5, 0.0),
        (7, 10, 5, 0.0, 0.0),
    ],
)
def test_insertion_probability_by_hand(i: int, n_align: int, n_reason: int, gamma: float, expected: float) -> None:
    assert insertion_probability(i, n_align, n_reason, gamma) == pytest.approx(expected, abs=1e-15)


def test_insertion_probability_default_gamma_is_the_papers() -> None:
    assert insertion_probability(4, 10, 5) == insertion_probability(4, 10, 5, gamma=1.5) == pytest.approx(0.3)


@pytest.mark.parametrize("arguments", [(0, 10, 5, 1.5), (1, 0, 5, 1.5), (1, 10, -1, 1.5), (1, 10, 5, -1.0)])
def test_insertion_probability_refuses(arguments: tuple[int, int, int, float]) -> None:
    with pytest.raises(ValueError, match="no probability"):
        insertion_probability(*arguments)


@given(st.integers(1, 300), st.integers(0, 300), st.floats(0, 20))
def test_expected_insertions_is_the_sum(n_align: int, n_reason: int, gamma: float) -> None:
    total = math.fsum(insertion_probability(i, n_align, n_reason, gamma) for i in range(1, n_align + 1))
    assert expected_insertions(n_align, n_reason, gamma) == pytest.approx(min(n_reason, total), rel=1e-9, abs=1e-9)


def test_insertions_match_the_closed_form_over_seeds() -> None:
    """Issue C: N_align 10,000, N_reason 3,000, γ 1.5."""
    plans = (curriculum_epoch(10_000, 3_000, 1.5, np.random.default_rng(seed)) for seed in range(200))
    inserted = [3_000 - int((plan.phase == LEFTOVER).sum()) for plan in plans]
    variance = sum(p * (1 - p) for p in (insertion_probability(i, 10_000, 3_000) for i in range(1, 10_001)))
    assert expected_insertions(10_000, 3_000) == pytest.approx(2_250.225)
    assert np.mean(inserted) == pytest.approx(2_250.225, abs=4 * math.sqrt(variance / 200))


@given(st.integers(0, 60), COUNTS, st.floats(0, 5), SEEDS)
def test_curriculum_epoch_is_section_4_3(n_align: int, n_reason: int, gamma: float, seed: int) -> None:
    plan = curriculum_epoch(n_align, n_reason, gamma, np.random.default_rng(seed))
    draws = np.random.default_rng(seed).random(n_align).tolist()
    names = ["align", "reason"]
    assert [(names[k], p) for k, p in zip(plan.kind, plan.phase, strict=True)] == slow_epoch(
        n_align, n_reason, gamma, draws
    )
    probabilities = plan.planned[plan.kind == ALIGN].tolist()
    assert probabilities == [insertion_probability(i, n_align, n_reason, gamma) for i in range(1, n_align + 1)]
    for batch in np.flatnonzero((plan.kind == REASON) & (plan.phase == CURRICULUM)):
        assert plan.planned[batch] == plan.planned[batch - 1] and plan.kind[batch - 1] == ALIGN
    assert np.isnan(plan.planned[plan.phase == LEFTOVER]).all()


def test_uniform_epoch_is_a_random_permutation() -> None:
    """The place of the one reasoning batch among five is uniform."""
    plans = [uniform_epoch(4, 1, 0, 0.2, np.random.default_rng(seed)) for seed in range(2_000)]
    places = np.bincount([int(np.flatnonzero(plan.kind == REASON)[0]) for plan in plans])
    assert places.sum() == 2_000 and (abs(places - 400) < 4 * math.sqrt(2_000 * 0.2 * 0.8)).all()


@st.composite
def curricula(draw: st.DrawFn) -> Curriculum:
    epochs = draw(st.integers(1, 4))
    settings = CurriculumSettings(
        epochs=epochs,
        batch_rows=draw(st.integers(1, 6)),
        curriculum_epochs=draw(st.integers(0, epochs)),
        gamma=draw(st.sampled_from([0.0, 1.5, 10.0])),
        batches_per_step=draw(st.integers(1, 3)),
        uniform_unit=draw(st.sampled_from(["batch", "sample"])),
        seed=draw(SEEDS),
    )
    tags = draw(st.lists(st.tuples(st.sampled_from([ALIGN, REASON]), st.integers(0, epochs)), max_size=40))
    kinds, of_epoch = np.array([(ALIGN, 0), *tags]).T
    return Curriculum(kinds.astype(np.int8), of_epoch, settings)


@given(curricula())
def test_each_epoch_sees_exactly_its_rows_in_batches_of_one_kind(curriculum: Curriculum) -> None:
    size = curriculum.settings.batch_rows
    for epoch in range(1, curriculum.settings.epochs + 1):
        batches, plan = curriculum.batches(epoch), curriculum.epoch_plans[epoch - 1]
        assert batches.shape == (len(plan), size)
        own = np.flatnonzero((curriculum.epochs == 0) | (curriculum.epochs == epoch))
        assert set(batches.ravel()) == set(own)
        for batch, kind in zip(batches, plan.kind, strict=True):
            assert kind == MIXED or set(curriculum.kinds[batch]) == {kind}
        sampled = epoch > curriculum.settings.curriculum_epochs and curriculum.settings.uniform_unit == "sample"
        groups = [own] if sampled else [own[curriculum.kinds[own] == kind] for kind in (ALIGN, REASON)]
        assert len(plan) == sum(-(-len(group) // size) for group in groups)
        for group in groups:
            times = np.bincount(batches.ravel(), minlength=len(curriculum.kinds))[group]
            assert times.sum() == -(-len(group) // size) * size, "fewer than one batch of rows is drawn again"
            if len(group) >= size:
                assert times.max(initial=1) <= 2


@given(curricula())
def test_shares_are_the_epochs_one_after_another_in_equal_parts(curriculum: Curriculum) -> None:
    settings, sampler = curriculum.settings, CurriculumSampler(curriculum)
    trained = []
    for sampler.epoch in range(settings.epochs):
        rows = list(sampler)
        assert len(rows) == len(sampler)
        trained += rows
    assert len(sampler) % (settings.batch_rows * settings.batches_per_step) == 0
    whole = np.concatenate([curriculum.batches(epoch).ravel() for epoch in range(1, settings.epochs + 1)])
    assert trained[: len(whole)] == whole.tolist()
    last = curriculum.batches(settings.epochs).ravel().tolist()
    assert trained[len(whole) :] == list(itertools.islice(itertools.cycle(last), len(trained) - len(whole)))
    filling = (len(trained) - len(whole)) // settings.batch_rows
    assert filling == (curriculum.plan.phase == FILLED).sum() < settings.epochs * settings.batches_per_step
    assert len(curriculum.plan) == curriculum.share_batches * settings.epochs


def curriculum_of(align: int, reason: int, **settings: int | float | str) -> Curriculum:
    kinds = np.repeat([ALIGN, REASON], [align, reason])
    return Curriculum(kinds, np.zeros(align + reason, int), CurriculumSettings(**settings))  # type: ignore[arg-type]


def test_equal_epochs_are_the_shares_and_i_starts_again() -> None:
    plan = curriculum_of(40, 12, epochs=3, batch_rows=4, seed=3).plan
    assert plan.epoch.tolist() == [1] * 13 + [2] * 13 + [3] * 13
    assert plan.phase[26:].tolist() == [UNIFORM] * 13
    assert plan.planned[0] == plan.planned[13] == pytest.approx(1.5 * 1 / 10 * 3 / 10)
    assert plan.planned[26:].tolist() == [12 / 52] * 13


def test_the_last_batch_of_a_kind_is_filled_with_its_own_kind() -> None:
    curriculum = curriculum_of(5, 2, epochs=1, batch_rows=4, curriculum_epochs=1, seed=0)
    batches = curriculum.batches(1)
    assert sorted(np.unique(batches, return_counts=True)[1].tolist()) == [1, 1, 2, 2, 2, 2, 2]
    reason = batches[curriculum.plan.kind == REASON]
    assert sorted(reason.ravel()) == [5, 5, 6, 6]


def test_same_seed_same_order_and_another_epoch_another() -> None:
    one, same, other = (curriculum_of(50, 20, epochs=2, batch_rows=4, seed=seed) for seed in (1, 1, 2))
    assert (one.batches(1) == same.batches(1)).all() and (one.batches(1) != other.batches(1)).any()
    assert (one.batches(1) != one.batches(2)).any()


@pytest.mark.parametrize("curriculum_epochs", [0, 2])
def test_each_epoch_draws_its_own_insertions_or_permutation(curriculum_epochs: int) -> None:
    curriculum = curriculum_of(400, 120, epochs=2, batch_rows=4, curriculum_epochs=curriculum_epochs, seed=1)
    one, two = (plan.kind.tolist() for plan in curriculum.epoch_plans)
    assert one != two and sorted(one) == sorted(two)


def test_rows_are_drawn_apart_from_the_insertions() -> None:
    """Another γ inserts elsewhere, and the rows of the i-th batch of a kind stay."""
    slow, fast = (curriculum_of(90, 30, epochs=1, batch_rows=5, curriculum_epochs=1, gamma=g) for g in (0.5, 5.0))
    assert (slow.plan.kind != fast.plan.kind).any()
    for kind in (ALIGN, REASON):
        one, two = (curriculum.batches(1)[curriculum.plan.kind == kind] for curriculum in (slow, fast))
        assert (one == two).all()
    assert slow.batches(1)[slow.plan.kind == ALIGN].ravel().tolist() != list(range(90)), "shuffled"


def test_each_epoch_shuffles_its_rows_anew() -> None:
    curriculum = curriculum_of(100, 40, epochs=2, batch_rows=4, curriculum_epochs=2)
    for kind in (ALIGN, REASON):
        one, two = (curriculum.batches(e)[curriculum.epoch_plans[e - 1].kind == kind].ravel() for e in (1, 2))
        assert sorted(one) == sorted(two) and one.tolist() != two.tolist()


@given(SEEDS)
def test_the_filling_of_a_batch_is_other_rows_as_long_as_there_are_any(seed: int) -> None:
    curriculum = curriculum_of(10, 0, epochs=1, batch_rows=4, curriculum_epochs=1, seed=seed)
    last = curriculum.batches(1)[-1]
    assert len(set(last)) == 4 and sorted(curriculum.batches(1).ravel().tolist()).count(last[0]) == 1


def test_lengths_sort_the_rows_of_a_batch_and_change_no_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, 70)
    plain = curriculum_of(50, 20, epochs=2, batch_rows=8, seed=1)
    with_lengths = Curriculum(plain.kinds, plain.epochs, plain.settings, lengths)
    for batch, sorted_batch in zip(plain.share(1), with_lengths.share(1), strict=True):
        assert sorted(batch) == sorted(sorted_batch)
        assert (np.diff(lengths[sorted_batch]) >= 0).all()


def test_an_epoch_without_rows_is_refused() -> None:
    with pytest.raises(GreamError, match=r"no row for epoch 3 of 3.*epoch. column of the data has \(2\)"):
        Curriculum(np.zeros(4, int), np.array([1, 1, 2, 2]), CurriculumSettings(epochs=3, batch_rows=2))
