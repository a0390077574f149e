"""Replay: a share of the alignment rows of each epoch, all reasoning rows. General rows: a share of all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.curriculum import ALIGN, REASON, Curriculum, CurriculumSettings
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import GENERAL, CurriculumKeys
from gream_ext.plugins.llamafactory.shares import NEVER, drawn, replayed, with_general

ROWS = st.lists(st.tuples(st.sampled_from([ALIGN, REASON]), st.integers(0, 3)), min_size=1, max_size=60)


@given(ROWS, st.floats(0.01, 1.0), st.integers(0, 5))
def test_a_share_of_each_epochs_alignment_rows_stays(rows: list[tuple[int, int]], share: float, seed: int) -> None:
    kinds, epochs = np.array(rows).T
    left = replayed(kinds, epochs, share, seed)
    assert (left == replayed(kinds, epochs, share, seed)).all()
    kept = left != NEVER
    assert (left[kept] == epochs[kept]).all() and kept[kinds == REASON].all()
    for epoch in range(4):
        own = (kinds == ALIGN) & (epochs == epoch)
        assert kept[own].sum() == (max(1, round(share * own.sum())) if own.any() else 0)


@given(ROWS, st.integers(0, 200), st.floats(0.01, 0.7), st.integers(1, 3), st.integers(0, 5))
def test_general_rows_make_up_their_share_of_each_epoch_and_none_comes_twice(
    rows: list[tuple[int, int]], general: int, share: float, run_epochs: int, seed: int
) -> None:
    kinds, epochs = np.array([*rows, *[(GENERAL, 0)] * general]).T
    own = [int(np.isin(epochs[kinds != GENERAL], (0, epoch)).sum()) for epoch in range(1, run_epochs + 1)]
    wanted = [round(share / (1 - share) * count) for count in own]
    if sum(wanted) > general:
        with pytest.raises(GreamError, match=rf"{sum(wanted)} rows of general data in {run_epochs} epochs.* {general}"):
            with_general(kinds, epochs, share, run_epochs, seed)
        return
    new_kinds, new_epochs = with_general(kinds, epochs, share, run_epochs, seed)
    ours = kinds != GENERAL
    assert (new_kinds[ours] == kinds[ours]).all() and (new_epochs[ours] == epochs[ours]).all()
    assert (new_kinds[~ours] == ALIGN).all() and 0 not in new_epochs[~ours]
    assert [int((new_epochs[~ours] == epoch).sum()) for epoch in range(1, run_epochs + 1)] == wanted


def test_the_share_that_is_said_is_one_that_there_is_enough_for() -> None:
    kinds = np.repeat([ALIGN, REASON, GENERAL], [400, 100, 77])
    with pytest.raises(GreamError, match=r"give more, or lower it to 0\.071") as raised:
        with_general(kinds, np.zeros(577, int), 0.3, 2, 0)
    said = float(str(raised.value).rsplit(" ", 1)[1])
    with_general(kinds, np.zeros(577, int), said, 2, 0)


def test_general_rows_are_drawn_by_the_seed() -> None:
    kinds = np.repeat([ALIGN, GENERAL], [100, 500])
    one, same, other = (with_general(kinds, np.zeros(600, int), 0.2, 3, seed)[1].tolist() for seed in (1, 1, 2))
    assert one == same != other
    first = {row for row, epoch in enumerate(one) if epoch == 1}
    assert max(first) > 300, "not the first rows of the file"


def test_both_shares_are_heeded_replay_first() -> None:
    kinds = np.repeat([ALIGN, REASON, GENERAL], [80, 20, 50])
    keys = CurriculumKeys(gream_align_share=0.25, gream_general_share=0.2)
    new_kinds, epochs = drawn(kinds, np.zeros(150, int), keys, run_epochs=2, seed=3)
    curriculum = Curriculum(new_kinds, epochs, CurriculumSettings(epochs=2, batch_rows=5))
    assert curriculum.row_counts(1) == curriculum.row_counts(2) == (20 + 10, 20)
    kept = drawn(kinds[:100], np.zeros(100, int), CurriculumKeys(), run_epochs=2, seed=3)
    assert kept[0].tolist() == kinds[:100].tolist() and not kept[1].any()


def test_untold_rows_are_refused() -> None:
    with pytest.raises(GreamError, match=r"neither alignment nor reasoning data: .* set gream_general_share"):
        with_general(np.array([ALIGN, GENERAL]), np.zeros(2, int), 0.0, 1, 0)


def test_each_epochs_rows_are_drawn_by_themselves() -> None:
    left = replayed(np.full(200, ALIGN), np.repeat([1, 2], 100), 0.3, seed=1)
    assert np.flatnonzero(left == 1).tolist() != (np.flatnonzero(left == 2) - 100).tolist()
    assert left.tolist() != replayed(np.full(200, ALIGN), np.repeat([1, 2], 100), 0.3, seed=2).tolist()


def test_rows_left_out_are_in_no_batch() -> None:
    kinds = np.repeat([ALIGN, REASON], [90, 10])
    left = replayed(kinds, np.zeros(100, int), 0.2, seed=1)
    curriculum = Curriculum(kinds, left, CurriculumSettings(epochs=2, batch_rows=2, curriculum_epochs=0))
    trained = {int(row) for share in range(2) for batch in curriculum.share(share) for row in batch}
    assert trained == set(np.flatnonzero(left != NEVER)) and len(trained) == 28
