"""The thread that uses the model, the service's measures and the search of titles, with a recommender of no model."""

import threading

import pytest

from gream_ext.errors import GreamError
from gream_ext.extras.serve.measures import Measures
from gream_ext.extras.serve.model_thread import Busy, ModelThread
from gream_ext.inference.questions import Question
from tests.support.fake_recommender import TITLES, FakeRecommender


@pytest.mark.parametrize("wrong", ["i3", "i4"])
def test_one_bad_question_spoils_no_other(wrong: str) -> None:
    fake = FakeRecommender()
    thread = ModelThread(fake, Measures())
    bad, good = thread.ask(Question((wrong, wrong)), 60), thread.ask(Question((), n=3), 60)
    thread.start()
    try:
        with pytest.raises(RuntimeError if wrong == "i3" else GreamError):
            bad.result(60)
        assert len(good.result(60)) == 3
        assert fake.batches == [2, 1, 1]
    finally:
        thread.stop()


def test_who_waits_too_long_or_leaves_costs_nothing() -> None:
    fake = FakeRecommender()
    fake.go.clear()
    thread = ModelThread(fake, Measures(), max_waiting=2)
    thread.start()
    try:
        thread.ask(Question(()), 60)
        assert fake.begun.wait(60)
        late, left = thread.ask(Question(()), 0), thread.ask(Question(()), 60)
        assert left.cancel()
        with pytest.raises(Busy):
            thread.ask(Question(()), 60)
        fake.go.set()
        with pytest.raises(TimeoutError, match="no answer in time"):
            late.result(60)
        assert fake.batches == [1]
    finally:
        fake.go.set()
        thread.stop()
    with pytest.raises(Busy):
        thread.ask(Question(()), 5)


def test_a_reasoning_nobody_reads_is_dropped_and_keeps_nobody_waiting() -> None:
    fake = FakeRecommender(pause=0.01)
    fake.tokens = 100_000
    measures = Measures()
    thread = ModelThread(fake, measures)
    thread.start()
    try:
        seen = threading.Event()
        stream = thread.reason(Question(("i0",)), 600, lambda piece: seen.set())
        assert seen.wait(60)
        assert len(thread.ask(Question((), n=2), 60).result(60)) == 2
        assert "gream_reasonings_total{" not in measures.text(), "it is still under way"
        stream.cancelled = True
        assert fake.closed.wait(60), "while nothing else is asked"
        assert 'ended="left"' in measures.text()
    finally:
        thread.stop()


def test_titles_are_found_nearest_first() -> None:
    assert TITLES.search("lu") == ["i4", "i2"]
    assert TITLES.search("velta ret") == ["i3"]
    assert TITLES.search("  ") == TITLES.search("zzz") == []
    assert TITLES.search("v", limit=1) == ["i0"]


def test_reasonings_that_nobody_reads_any_more_keep_no_place_in_the_queue() -> None:
    thread = ModelThread(FakeRecommender(), Measures(), max_waiting=2)
    waiting = [thread.reason(Question(()), 60, lambda piece: None) for _ in range(2)]
    with pytest.raises(Busy):
        thread.reason(Question(()), 60, lambda piece: None)
    waiting[0].cancelled = True
    thread.reason(Question(()), 60, lambda piece: None)
    assert thread.waiting == 2
