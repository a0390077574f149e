"""Both modes on items, through the transformers engine on a model that knows nothing."""

import pytest

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Capabilities, Sample, Sampling
from gream_ext.inference.engines.transformers import TransformersEngine, load_model
from gream_ext.inference.modes import Modes, Reasoning, Request, votes
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
    answers = modes.direct([Request(history) for history in HISTORIES], beams=10)
    for answer in answers:
        named = [one.item_id for one in answer.items]
        assert answer.error is None and len(named) == 10 == len(set(named)) and set(named) <= set(ITEMS)
        scores = [one.score for one in answer.items]
        assert scores == sorted(scores, reverse=True)


def test_a_prompt_shows_the_last_items_of_the_window(modes):
    text = modes.engine.tokenizer.decode(modes.direct_prompt(HISTORIES[3]))
    assert modes.index.text("i10") in text and modes.index.text("i9") not in text
    assert text.endswith("<|im_start|>assistant\n")
    assert "step by step" in modes.engine.tokenizer.decode(modes.reason_prompt(HISTORIES[0]))


def test_what_is_excluded_is_not_recommended(modes):
    requests = [
        Request(HISTORIES[0], exclude_seen=True),
        Request(HISTORIES[0], only=["i1", "i2", "i7"], without=["i2"]),
        Request(HISTORIES[3], exclude_seen=True, only=ITEMS[:35]),
    ]
    first, second, third = modes.direct(requests, beams=40)
    assert {one.item_id for one in first.items} == set(ITEMS) - set(HISTORIES[0])
    assert {one.item_id for one in second.items} == {"i1", "i7"}
    assert {one.item_id for one in third.items} == set(ITEMS[30:35])


def test_a_request_that_cannot_be_answered_fails_alone(modes):
    answers = modes.direct([Request(["i1", "nonsense"]), Request(["i1"]), Request(["i1"], only=[])], beams=5)
    assert "nonsense" in answers[0].error and not answers[0].items
    assert answers[1].error is None and len(answers[1].items) == 5
    assert "holds no item" in answers[2].error
    with pytest.raises(GreamError, match="nonsense"):
        modes.reason([Request(["nonsense"])], SAMPLING)
    with pytest.raises(GreamError, match="holds no item"):
        modes.reason([Request(["i1"], only=[])], SAMPLING)


def test_answers_of_reasoning_mode_are_real_items(modes):
    requests = [Request(history) for history in HISTORIES] + [Request(["i1"], only=["i5", "i6"])]
    # An answer within reasoning that never ended is none: the prompt's marker is not part of the response.
    samples = primed(modes).reason(requests, SAMPLING, seeds=range(5))
    tokenizer = modes.engine.tokenizer
    texts = {modes.index.text(item) + "</answer>": item for item in ITEMS}
    for request, own in zip(requests, samples, strict=True):
        assert len(own) == 3
        for one in own:
            assert one.finish == "answer" and one.text in texts
            assert request.only is None or texts[one.text] in request.only
            assert one.tokens == len(tokenizer.encode(one.text))


def test_reasoning_is_the_same_for_the_same_seed_and_streams_the_same(modes):
    free = Sampling(n=3, max_new_tokens=6, constrained=False)
    for asked, sampling in ((primed(modes), SAMPLING), (modes, free)):
        requests = [Request(history) for history in HISTORIES]
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
    assert read == Reasoning(written, item, status, item is not None, finish, 2)


def test_votes_count_and_keep_the_first_named_first():
    def named(*items):
        return [Reasoning("", item, "", item is not None, "end", 0) for item in items]

    assert [(one.item_id, one.score) for one in votes(named("b", None, "a", "c", "c"))] == [
        ("c", 0.4),
        ("b", 0.2),
        ("a", 0.2),
    ]
    assert votes(named(None)) == []


def test_what_an_engine_cannot_do_is_refused(modes):
    class Lesser:
        name = "lesser"
        tokenizer = modes.engine.tokenizer
        capabilities = Capabilities(False, ("vocabulary",), False, False, False, False, False)

    lesser = Modes(Lesser(), modes.index)
    with pytest.raises(GreamError, match="the lesser engine cannot do direct mode within a part"):
        lesser.direct([Request(["i1"], exclude_seen=True)])
    with pytest.raises(GreamError, match="the lesser engine cannot do constrained answers"):
        lesser.reason([Request(["i1"])])
    with pytest.raises(GreamError, match="needs constrained answers"):
        modes.reason([Request(["i1"], only=["i2"])], Sampling(constrained=False))
    with pytest.raises(GreamError, match="n must be at least 1"):
        modes.reason([Request(["i1"])], Sampling(n=0))
    with pytest.raises(GreamError, match="beams must be at least 1"):
        modes.direct([Request(["i1"])], beams=0)
    with pytest.raises(GreamError, match="1 seeds for 2 prompts"):
        modes.reason([Request(["i1"])] * 2, SAMPLING, seeds=[1])


def test_a_model_from_its_folder(modes, tmp_path):
    modes.engine.model.model.save_pretrained(tmp_path / "model")
    modes.engine.tokenizer.save_pretrained(tmp_path / "model")
    model, tokenizer = load_model(tmp_path / "model")
    again = Modes(TransformersEngine(model, tokenizer, modes.engine.trie), modes.index)
    requests = [Request(history) for history in HISTORIES]
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
