"""Replay: a share of the alignment rows of each epoch, all reasoning rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.curriculum import ALIGN, REASON, Curriculum, CurriculumSettings
from gream_ext.plugins.llamafactory.replay import NEVER, replayed

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


def test_rows_left_out_are_in_no_batch() -> None:
    kinds = np.repeat([ALIGN, REASON], [90, 10])
    left = replayed(kinds, np.zeros(100, int), 0.2, seed=1)
    curriculum = Curriculum(kinds, left, CurriculumSettings(epochs=2, batch_rows=2, curriculum_epochs=0))
    trained = {int(row) for share in range(2) for batch in curriculum.share(share) for row in batch}
    assert trained == set(np.flatnonzero(left != NEVER)) and len(trained) == 28
