"""Both modes on items, through the transformers engine on a model that knows nothing."""

import math
from copy import copy
from itertools import zip_longest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.decoding.faithful import FaithfulHistory, HistoryProcessor
from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.sampler import sample_tokens
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Sample, Sampling
from gream_ext.inference.engines.transformers import TransformersEngine, batches
from gream_ext.inference.loading import load_model
from gream_ext.inference.modes import Modes, Reasoning, votes, written_history
from gream_ext.inference.questions import Question
from tests.support.synthetic import synthetic_index
from tests.support.tiny_models import tiny_chat_model

ITEMS = [f"i{number}" for number in range(40)]
HISTORIES = [("i1", "i2", "i3"), ("i9",), (), tuple(ITEMS[:30])]
SAMPLING = Sampling(n=3, max_new_tokens=6)


@pytest.fixture(scope="module", params=["always", "colliding"])
def modes(request):
    index = synthetic_index(ITEMS, request.param)
    model, tokenizer = tiny_chat_model(index)
    engine = TransformersEngine(model, tokenizer, ItemTrie.from_index(index, tokenizer))
    return Modes(engine, index, PromptSettings(system_prompt="short"))


def primed(modes):
    """The same modes asked in such a way that the response begins within the answer."""

    class Primed(Modes):
        def reason_prompt(self, history):
            begin, _ = answer_tokens(self.engine.tokenizer)
            return [*super().reason_prompt(history), begin]

    return Primed(modes.engine, modes.index, modes.prompts)


def test_every_history_is_answered_with_real_items(modes):
    answers = modes.direct([Question(history) for history in HISTORIES], beams=10)
    for answer in answers:
        named = [one.item_id for one in answer]
        assert len(named) == 10 == len(set(named)) and set(named) <= set(ITEMS)
        scores = [one.score for one in answer]
        assert scores == sorted(scores, reverse=True)


def test_a_prompt_shows_the_last_items_of_the_window(modes):
    text = modes.engine.tokenizer.decode(modes.direct_prompt(HISTORIES[3]))
    assert modes.index.text("i10") in text and modes.index.text("i9") not in text
    assert text.endswith("<|im_start|>assistant\n")
    assert "step by step" in modes.engine.tokenizer.decode(modes.reason_prompt(HISTORIES[0]))


def test_what_is_excluded_is_not_recommended(modes):
    requests = [
        Question(HISTORIES[0], exclude=HISTORIES[0]),
        Question(HISTORIES[0], among=["i1", "i2", "i7"], exclude=["i2"]),
        Question(HISTORIES[3], exclude=HISTORIES[3], among=ITEMS[:35]),
    ]
    first, second, third = modes.direct(requests, beams=40)
    assert {one.item_id for one in first} == set(ITEMS) - set(HISTORIES[0])
    assert {one.item_id for one in second} == {"i1", "i7"}
    assert {one.item_id for one in third} == set(ITEMS[30:35])


def test_a_question_that_cannot_be_answered_says_why(modes):
    with pytest.raises(GreamError, match="nonsense"):
        modes.direct([Question(["i1", "nonsense"]), Question(["i1"])], beams=5)
    with pytest.raises(GreamError, match="holds no item"):
        modes.direct([Question(["i1"]), Question(["i1"], among=[])], beams=5)
    with pytest.raises(GreamError, match="nonsense"):
        modes.reason([Question(["nonsense"])], SAMPLING)
    with pytest.raises(GreamError, match="holds no item"):
        modes.reason([Question(["i1"], among=[])], SAMPLING)


def test_answers_of_reasoning_mode_are_real_items(modes):
    requests = [Question(history) for history in HISTORIES] + [Question(["i1"], among=["i5", "i6"])]
    # An answer within reasoning that never ended is none: the prompt's marker is not part of the response.
    samples = primed(modes).reason(requests, SAMPLING, seeds=range(5))
    tokenizer = modes.engine.tokenizer
    texts = {modes.index.text(item) + "</answer>": item for item in ITEMS}
    for request, own in zip(requests, samples, strict=True):
        assert len(own) == 3
        for one in own:
            assert one.finish == "answer" and one.text in texts
            assert request.among is None or texts[one.text] in request.among
            assert one.tokens == len(tokenizer.encode(one.text))


def test_reasoning_is_the_same_for_the_same_seed_and_streams_the_same(modes):
    free = Sampling(n=3, max_new_tokens=6, constrained=False)
    for asked, sampling in ((primed(modes), SAMPLING), (modes, free)):
        requests = [Question(history) for history in HISTORIES]
        together = asked.reason(requests, sampling, seeds=[1, 2, 3, 4])
        assert asked.reason(requests[2:3], sampling, seeds=[3]) == together[2:3]
        assert asked.reason(requests, sampling, seeds=[5, 6, 7, 8]) != together
        *growing, last = asked.stream(requests[1], sampling, seed=2)
        assert last == together[1][0]
        assert all(one.finish is None and last.text.startswith(one.text.rstrip("\ufffd")) for one in growing)
    assert modes.reason(requests, free) != modes.reason(requests, free)


@pytest.mark.parametrize(
    ("text", "finish", "item", "status"),
    [
        ("<think>so</think> <answer>{}</answer>", "answer", "i4", "answered"),
        ("<answer>{}</answer>", "end", "i4", "answered"),
        ("<think>so</think> <answer><|a_999|></answer>", "end", None, "unknown_item"),
        ("<think>so on and so on", "length", None, "truncated"),
        ("<think>so on and so on", "end", None, "unfinished_reasoning"),
        ("<think>so</think> nothing", "end", None, "no_answer"),
        ("<think>so</think> <answer>{}", "length", None, "truncated"),
        ("<think>so</think> <answer>something</answer>", "answer", None, "not_an_identifier"),
    ],
)
def test_what_a_response_says(modes, text, finish, item, status):
    written = text.format(modes.index.text("i4"))
    read = modes.reasoning(Sample((1, 2), (), written, finish))
    assert read == Reasoning(written, item, status, finish, 2)


def test_votes_count_and_keep_the_first_named_first():
    def named(*items):
        return [Reasoning("", item, "", "end", 0) for item in items]

    assert [(one.item_id, one.score) for one in votes(named("b", None, "a", "c", "c"))] == [
        ("c", 0.4),
        ("b", 0.2),
        ("a", 0.2),
    ]
    assert votes(named(None)) == []


def test_what_an_engine_cannot_do_is_refused(modes):
    with pytest.raises(GreamError, match="needs constrained answers"):
        modes.reason([Question(["i1"], among=["i2"])], Sampling(constrained=False))
    with pytest.raises(GreamError, match="n must be at least 1"):
        modes.reason([Question(["i1"])], Sampling(n=0))
    with pytest.raises(GreamError, match="beams must be at least 1"):
        modes.direct([Question(["i1"])], beams=0)
    with pytest.raises(GreamError, match="1 seeds for 2 prompts"):
        modes.reason([Question(["i1"])] * 2, SAMPLING, seeds=[1])


def test_a_model_from_its_folder(modes, tmp_path):
    modes.engine.model.model.save_pretrained(tmp_path / "model")
    modes.engine.tokenizer.save_pretrained(tmp_path / "model")
    model, tokenizer = load_model(tmp_path / "model")
    again = Modes(TransformersEngine(model, tokenizer, modes.engine.trie), modes.index)
    requests = [Question(history) for history in HISTORIES]
    assert again.direct(requests, 5) == modes.direct(requests, 5)
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(GreamError, match="cannot be loaded"):
        load_model(tmp_path / "model")
    with pytest.raises(GreamError, match="is no model folder"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(GreamError, match="can be loaded"):
        load_model(tmp_path)


@given(
    st.lists(st.integers(1, 60), max_size=40), st.integers(0, 30), st.integers(1, 400), st.integers(1, 9) | st.none()
)
def test_batches_hold_prompts_of_about_one_length_and_no_more_tokens_than_asked(lengths, steps, tokens, most):
    found = list(batches(lengths, steps, tokens, most))
    assert sorted(number for batch in found for number in batch) == list(range(len(lengths)))
    widths = [lengths[number] for batch in found for number in batch]
    assert widths == sorted(widths)
    for batch, following in zip_longest(found, found[1:]):
        assert len(batch) == 1 or len(batch) * (lengths[batch[-1]] + steps) <= tokens
        assert most is None or len(batch) <= most
        if following is not None and len(batch) != most:  # one more would have been too much
            assert (len(batch) + 1) * (lengths[following[0]] + steps) > tokens


@pytest.mark.parametrize("history", HISTORIES)
def test_the_written_history_is_the_users_own(modes, history):
    """A model that knows nothing names items everywhere; at that place only those that it was shown, in order."""
    engine = modes.engine
    think = engine.tokenizer.encode("</think>", add_special_tokens=False)[0]

    def begins(so_far, scores):  # the response begins with the end of the thinking, and then names items
        chosen = scores.clone()
        if so_far.shape[1] == begins.prompt:
            chosen[:, think] = 1e4
        chosen[:, list(engine._rewriting.identifiers)] += 20
        return chosen

    shown = [modes._rows(history[-modes.prompts.reason_window :])]
    prompt = modes.reason_prompt(history)
    begins.prompt = len(prompt)
    texts = {}
    for faithful in (True, False):
        grammar = [FaithfulHistory.of(engine._rewriting, engine.trie, shown[0]) if faithful else None] * 8
        samples = sample_tokens(
            engine.model, [prompt] * 8, temperature=1.0, top_p=1.0, max_new_tokens=40, eos_token_id=engine._ends,
            pad_token_id=0, seed=3, logits_processors=[begins, HistoryProcessor(grammar)],
        )  # fmt: skip
        texts[faithful] = [engine.tokenizer.decode(sample.ids, skip_special_tokens=True) for sample in samples]
    for text in texts[True]:
        named = written_history(modes.index, text)
        assert set(named) <= set(history[-modes.prompts.reason_window :])
    assert any(None in written_history(modes.index, text) or set(written_history(modes.index, text)) - set(history)
               for text in texts[False])  # fmt: skip


def test_the_option_reaches_the_sampler(modes):
    seen = []

    def watched(prompts, sampling, seeds, allowed, histories):
        seen.append((sampling.faithful, histories))
        return iter(())

    engine = copy(modes.engine)
    engine._steps = watched
    asked = Modes(engine, modes.index, modes.prompts)
    asked.reason([Question(HISTORIES[0]), Question(HISTORIES[3])], SAMPLING)
    list(asked.stream(Question(HISTORIES[1]), SAMPLING))
    rows = [[modes.index.position[item] for item in history[-20:]] for history in HISTORIES]
    assert seen == [(True, [rows[0], rows[3]]), (True, [rows[1]])]


def test_thinking_then_ranking(modes):
    """Every item after every reasoning, scored one by one, and their probabilities averaged."""
    asked, sampling = primed_to_think(modes), Sampling(n=2, max_new_tokens=12)
    requests = [Question(HISTORIES[0]), Question(HISTORIES[1], exclude=HISTORIES[1])]
    answers = asked.reason_and_rank(requests, sampling, seeds=[1, 2], beams=len(ITEMS))
    begin, _ = answer_tokens(modes.engine.tokenizer)
    for request, (reasonings, ranked), again in zip(
        requests, answers, asked.reason(requests, sampling, [1, 2]), strict=True
    ):
        assert reasonings == again
        expected = {}
        samples = asked.engine.sample([asked.reason_prompt(request.history)], sampling, [1 + requests.index(request)])[
            0
        ]
        begun = [sample.ids[: sample.ids.index(begin) + 1] for sample in samples if begin in sample.ids]
        assert begun
        for ids in begun:
            prompt = [*asked.reason_prompt(request.history), *ids]
            [one] = asked.engine.recommend([prompt], len(ITEMS), [asked.part(request)])
            for row, score in zip(one.rows.tolist(), one.scores.tolist(), strict=True):
                item = modes.index.item_ids[row]
                expected[item] = expected.get(item, 0) + math.exp(score) / len(begun)
        assert [one.item_id for one in ranked] == sorted(expected, key=lambda item: -expected[item])
        for one in ranked:
            assert math.exp(one.score) == pytest.approx(expected[one.item_id], rel=1e-3)
        assert not set(request.history) & set(expected) or not request.exclude
    [(reasonings, nothing)] = modes.reason_and_rank(requests[:1], Sampling(n=1, max_new_tokens=1), [1])
    assert reasonings[0].item_id is None and nothing == []


def primed_to_think(modes):
    """Modes whose model likes to begin an answer above all."""
    model, tokenizer = tiny_chat_model(modes.index, tie_word_embeddings=False)
    begin, _ = answer_tokens(tokenizer)
    bias = torch.nn.Linear(32, len(tokenizer))
    bias.weight = model.lm_head.weight
    bias.bias.data.zero_()
    bias.bias.data[begin] = 40.0
    model.lm_head = bias
    trie = ItemTrie.from_index(modes.index, tokenizer)
    return Modes(TransformersEngine(model, tokenizer, trie), modes.index, PromptSettings(system_prompt="short"))


def test_a_stream_that_ranks_gives_what_reasoning_and_ranking_gives(modes):
    asked, sampling = primed_to_think(modes), Sampling(n=3, max_new_tokens=12)
    question = Question(HISTORIES[0], exclude=HISTORIES[0])
    [(reasonings, expected)] = asked.reason_and_rank([question], sampling, [4], beams=7)
    *growing, last, ranked = asked.stream(question, sampling, 4, beams=7)
    assert ranked == expected and len(ranked) == 7
    assert last == reasonings[0] and all(isinstance(one, Reasoning) for one in growing)


def test_prepared_questions_are_answered_like_others(modes):
    questions = [Question(history) for history in HISTORIES]
    assert modes.direct(modes.prepare(questions, "direct"), 5) == modes.direct(questions, 5)
    ready = modes.prepare(questions, "reason")
    assert modes.reason(ready, SAMPLING, range(4)) == modes.reason(questions, SAMPLING, range(4))
