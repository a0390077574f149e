"""Direct mode on SGLang: the same items and scores as on transformers, and nothing that is no item."""

import numpy as np
import pytest

from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.errors import GreamError
from gream_ext.inference.questions import Question
from tests.sglang.conftest import Both
from tests.support.tiny_reasoner import CONTEXT

HISTORIES = [("i1", "i2", "i3"), ("i9",), (), tuple(f"i{number}" for number in range(24))]


def answers(both, requests, beams):
    """Of SGLang and of transformers: items, and scores within 1e-4 of each other."""
    ours, theirs = (one.direct(requests, beams) for one in (both.sglang, both.transformers))
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose([one.score for one in mine], [one.score for one in expected], atol=1e-4)
    named = [[one.item_id for one in answer] for answer in ours]
    assert named == [[one.item_id for one in answer] for answer in theirs]
    return named


@pytest.mark.parametrize("beams", [2, 10, 20])
def test_the_same_items_and_scores(both: Both, beams):
    known = set(both.sglang.index.item_ids)
    for named in answers(both, [Question(history) for history in HISTORIES], beams):
        assert len(named) == beams == len(set(named)) and set(named) <= known


def test_more_beams_than_items(both: Both):
    everything = set(both.sglang.index.item_ids)
    for named in answers(both, [Question(history) for history in HISTORIES], 64):
        assert set(named) == everything and len(named) == len(everything)


def test_sub_catalogues(both: Both):
    items = both.sglang.index.item_ids
    requests = [
        Question(HISTORIES[0], exclude=HISTORIES[0]),
        Question(HISTORIES[1], among=items[3:9], exclude=items[4:5]),
        Question(HISTORIES[2]),
        Question(HISTORIES[3], exclude=HISTORIES[3], among=items[:30]),
    ]
    first, second, _, fourth = answers(both, requests, 12)
    assert not set(first) & set(HISTORIES[0])
    assert set(second) == set(items[3:9]) - {items[4]}
    assert set(fourth) <= set(items[:30]) - set(HISTORIES[3])


def test_a_request_that_cannot_be_answered_fails_alone(both: Both):
    engine, prompt = both.sglang.engine, both.sglang.direct_prompt(HISTORIES[0])
    long = (prompt * 100)[: CONTEXT - 4]
    empty, fine, too_long = engine.recommend([prompt, prompt, long], 4, [SubCatalogue.only([]), None, None])
    assert "holds no item" in empty.error and not len(empty.rows)
    assert fine.error is None and len(fine.rows) == 4
    assert "no room" in too_long.error or "context" in too_long.error or "longer" in too_long.error


def test_both_normalisations(both: Both):
    engine, reference = both.sglang.engine, both.transformers.engine
    prompts = [both.sglang.direct_prompt(history) for history in HISTORIES]
    found = {}
    for normalisation in ("catalogue", "vocabulary"):
        engine.normalisation = reference.normalisation = normalisation
        try:
            pairs = zip(engine.recommend(prompts, 8), reference.recommend(prompts, 8), strict=True)
            for mine, expected in pairs:
                assert mine.rows.tolist() == expected.rows.tolist()
                np.testing.assert_allclose(mine.scores, expected.scores, atol=1e-4)
                found.setdefault(normalisation, []).append(mine.scores)
        finally:
            engine.normalisation = reference.normalisation = "catalogue"
    assert (np.concatenate(found["vocabulary"]) < np.concatenate(found["catalogue"])).all()


def test_one_beam_is_refused(both: Both):
    with pytest.raises(GreamError, match="at least 2 beams"):
        both.sglang.direct([Question(("i1",))], beams=1)
