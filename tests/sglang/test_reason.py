"""Reasoning mode on SGLang: the same responses as on transformers, and answers that are items by construction."""

from collections import Counter

import numpy as np
import pytest

from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.modes import ANSWERED, TRUNCATED
from gream_ext.inference.questions import Question
from tests.sglang.conftest import Both

HISTORIES = [("i1", "i2", "i3"), ("i9",), (), tuple(f"i{number}" for number in range(24))]
GREEDY = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=48)


@pytest.mark.parametrize("constrained", [True, False])
def test_the_same_responses_without_chance(both: Both, constrained):
    sampling = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=48, constrained=constrained)
    prompts = [both.sglang.reason_prompt(history) for history in HISTORIES]
    ours = both.sglang.engine.sample(prompts, sampling)
    theirs = both.transformers.engine.sample(prompts, sampling, seeds=[0] * len(prompts))
    for [mine], [expected] in zip(ours, theirs, strict=True):
        assert (mine.ids, mine.text, mine.finish) == (expected.ids, expected.text, expected.finish)
        assert not mine.logprobs


def test_every_answer_is_an_item(both: Both):
    """At a temperature at which the model writes nearly anything; what it does not finish is reported as such."""
    index, engine = both.sglang.index, both.sglang.engine
    begin, end = answer_tokens(engine.tokenizer)
    only = SubCatalogue.only([5, 6, 7])
    prompts = [both.sglang.reason_prompt(history) for history in (*HISTORIES, HISTORIES[0])]
    sampling = Sampling(n=16, temperature=1.3, top_p=1.0, max_new_tokens=40)
    sampled = engine.sample(prompts, sampling, None, [None] * len(HISTORIES) + [only])
    texts = [index.text(item) for item in index.item_ids]
    answers = 0
    for own, allowed in zip(sampled, [texts] * len(HISTORIES) + [texts[5:8]], strict=True):
        assert len(own) == 16
        for one in own:
            if begin not in one.ids or one.finish == "length":
                continue
            said = one.ids[one.ids.index(begin) + 1 :]
            assert said[-1] == end and one.finish == "answer"
            assert engine.tokenizer.decode(said[:-1]) in allowed
            answers += 1
            read = both.sglang.reasoning(one)
            assert read.status != ANSWERED or index.text(read.item_id) in allowed
    assert answers > 5  # about 35


def test_a_short_response_is_reported_as_cut(both: Both):
    [[one]] = both.sglang.reason([Question(("i1",))], Sampling(n=1, temperature=0.0, max_new_tokens=3))
    assert one.status == TRUNCATED and one.item_id is None and one.finish == "length" and one.tokens == 3


def test_the_same_distribution(both: Both):
    """Of the item, right after ``<answer>`` in the prompt, under temperature and top-p."""
    samples, sampling = 200, Sampling(n=200, temperature=0.9, top_p=0.8, max_new_tokens=8)
    prompt = [*both.sglang.reason_prompt(("i1", "i2")), answer_tokens(both.sglang.engine.tokenizer)[0]]
    part = SubCatalogue.only(np.arange(0, len(both.sglang.index), 3))
    counts = []
    for engine in (both.sglang.engine, both.transformers.engine):
        [found] = engine.sample([prompt], sampling, None, [part])
        assert all(one.finish == "answer" for one in found)
        counts.append(Counter(one.text for one in found))
    texts = {both.sglang.index.text(both.sglang.index.item_ids[row]) + "</answer>" for row in part.rows}
    assert set(counts[0]) <= texts and set(counts[1]) <= texts
    for text in texts:
        share = (counts[0][text] + counts[1][text]) / (2 * samples)
        error = np.sqrt(2 * share * (1 - share) / samples)
        assert abs(counts[0][text] - counts[1][text]) / samples <= 5 * error + 1e-9


def test_a_stream_grows_to_the_same_response(both: Both):
    request = Question(HISTORIES[0], exclude=HISTORIES[0])
    [[whole]] = both.sglang.reason([request], GREEDY)
    *growing, last = both.sglang.stream(request, GREEDY)
    assert last == whole and len(growing) > 3
    assert all(one.finish is None for one in growing)
    assert [one.tokens for one in growing] == sorted({one.tokens for one in growing})
    stream = both.sglang.stream(request, GREEDY)
    next(stream)
    stream.close()
    assert both.sglang.reason([request], GREEDY) == [[whole]]


def test_what_sglang_cannot_do_is_refused(both: Both):
    with pytest.raises(GreamError, match="from its seed"):
        both.sglang.reason([Question(("i1",))], GREEDY, seeds=[1])
    with pytest.raises(GreamError, match="from its seed"):
        list(both.sglang.stream(Question(("i1",)), GREEDY, seed=1))
    with pytest.raises(GreamError, match="constrained answers"):
        both.sglang.reason([Question(("i1",), among=["i2"])], Sampling(constrained=False))
    with pytest.raises(GreamError, match="holds no item"):
        both.sglang.reason([Question(("i1",), among=[])], GREEDY)
    with pytest.raises(GreamError, match="temperature"):
        both.sglang.reason([Question(("i1",))], Sampling(temperature=-1.0))
