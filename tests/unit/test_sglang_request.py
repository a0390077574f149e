"""What the SGLang engine and its plug-in say to each other, and what the engine makes of an unwilling server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.engines.sglang import SGLangEngine
from gream_ext.inference.engines.sglang_request import (
    AnswerTag,
    BeamRequest,
    check_catalogue,
    fingerprint,
    served_catalogue,
)
from gream_ext.inference.engines.sglang_server import Refusal, Server
from tests.support.synthetic import synthetic_index
from tests.support.tiny_models import tiny_chat_model

PARTS = [None, SubCatalogue.only([3, 1]), SubCatalogue.without([]), SubCatalogue.without([2])]


def same(one, other):
    if one is None or other is None:
        return one is other
    return one.excludes == other.excludes and one.rows.tolist() == other.rows.tolist()


@pytest.mark.parametrize("part", PARTS)
def test_requests_arrive_as_they_were_meant(part):
    asked = BeamRequest("abc", "vocabulary", part)
    read = BeamRequest.read(json.loads(json.dumps(asked.fields())))
    assert (read.catalogue, read.normalisation) == ("abc", "vocabulary") and same(read.part, part)
    for written in (None, (), (4, 5)):
        tag = AnswerTag("abc", 1, 2, written, part)
        read = AnswerTag.read(tag.text())
        assert (read.catalogue, read.begin, read.end, read.written) == ("abc", 1, 2, written)
        assert same(read.part, part)


def test_what_is_not_ours_is_none_of_ours():
    assert BeamRequest.read({"thinking_budget": 3}) is None
    assert AnswerTag.read('{"type": "structural_tag", "format": {"type": "any_text"}}') is None
    assert AnswerTag.read('{"format": {"type": "regex", "pattern": "gream_answer"}}') is None


@pytest.mark.parametrize(
    "fields",
    [
        {"gream_normalisation": "catalogue", "gream_only": "all"},
        {"gream_normalisation": "catalogue", "gream_without": [1.5]},
        {"gream_normalisation": "none"},
        {},
    ],
)
def test_misshapen_requests_are_refused(fields):
    with pytest.raises(GreamError, match="gream_"):
        BeamRequest.read({"gream_catalogue": "abc", **fields})


def test_catalogues_are_told_apart():
    ids = np.array([[1, 2], [1, 3]])
    name = fingerprint(ItemTrie.build(ids))
    assert name == fingerprint(ItemTrie.build(ids.copy()))
    assert len({name, *(fingerprint(ItemTrie.build(other)) for other in (ids[::-1], ids + 1))}) == 3
    check_catalogue("abc", "abc")
    with pytest.raises(GreamError) as refused:
        check_catalogue("abc", "def")
    assert served_catalogue(f"gream_ext: {refused.value}") == "def"
    assert served_catalogue("something else") is None


class Said:
    """A transport that always says the same."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def generate(self, requests):
        return [self.answers.pop(0) for _ in requests]

    def stream(self, request):
        yield from self.answers

    def close(self):
        pass


@pytest.fixture(scope="module")
def served():
    index = synthetic_index([f"i{number}" for number in range(16)])
    _, tokenizer = tiny_chat_model(index)
    return tokenizer, ItemTrie.from_index(index, tokenizer)


def willing(trie):
    return Refusal(f"gream_ext: gream_ext serves the catalogue {fingerprint(trie)}, not ?")


def test_a_server_without_the_plug_in_is_refused(served):
    for answer in ({"output_ids": [1]}, Refusal("beam search is not supported")):
        with pytest.raises(GreamError, match="does not keep to a catalogue"):
            SGLangEngine(Said(answer), *served)
    with pytest.raises(GreamError, match="another catalogue"):
        SGLangEngine(Said(Refusal("gream_ext serves the catalogue 0123, not ?")), *served)


def beams(trie, *found):
    return {
        "meta_info": {"beam_results": [{"output_ids": ids, "meta_info": {"sequence_score": s}} for ids, s in found]}
    }


def test_answers_that_are_no_items_are_refused(served):
    _, trie = served
    first = trie.tokens[1 : 1 + trie.levels].tolist()
    for answer, why in (
        (beams(trie, (first, -1.0)), "what is no item"),
        (beams(trie, (first, None)), "no numbers"),
        (beams(trie, (first, -1e30)), "found no item"),
        ({"meta_info": {"finish_reason": {"type": "length"}}}, "without beams"),
    ):
        with pytest.raises(GreamError, match=why):
            SGLangEngine(Said(willing(trie), answer), *served).recommend([[5]], 2)
    [refused] = SGLangEngine(Said(willing(trie), Refusal("too long")), *served).recommend([[5]], 2)
    assert refused.error == "too long"
    aborted = {"meta_info": {"finish_reason": {"type": "abort", "message": "the pool is full"}}}
    [ended] = SGLangEngine(Said(willing(trie), aborted), *served).recommend([[5]], 2)
    assert "the pool is full" in ended.error
    with pytest.raises(GreamError, match="prompt 0: too long"):
        SGLangEngine(Said(willing(trie), Refusal("too long")), *served).sample([[5]], Sampling())


@pytest.mark.parametrize(
    ("prompt", "sampling", "seed", "part", "why"),
    [
        ([], Sampling(), None, None, "prompt 0 is empty"),
        ([5], Sampling(), 3, None, "cannot repeat a sample from its seed"),
        ([5], Sampling(n=0), None, None, "n must be at least 1, not 0"),
        ([5], Sampling(top_p=0.0), None, None, "sampling needs temperature ≥ 0"),
        ([5], Sampling(temperature=float("nan")), None, None, "not nan, 0.9 and 1024"),
        ([5], Sampling(constrained=False), None, SubCatalogue.only([1]), "needs constrained answers"),
    ],
)
def test_a_sample_that_cannot_be_made_is_refused_before_it_is_sent(served, prompt, sampling, seed, part, why):
    engine = SGLangEngine(Said(willing(served[1])), *served)
    with pytest.raises(GreamError, match=why):
        engine.sample([prompt], sampling, None if seed is None else [seed], [part])
    with pytest.raises(GreamError, match=why):
        next(engine.stream(prompt, sampling, seed, part))


def test_what_a_stream_says_twice_is_said_once(served):
    """SGLang may send an event that adds nothing; the last is given in any case, for it says why it is the last."""
    events = [
        {"output_ids": ids, "meta_info": {"finish_reason": reason}}
        for ids, reason in (([5], None), ([5], None), ([5, 6], None), ([5, 6], {"type": "stop"}))
    ]
    found = list(SGLangEngine(Said(willing(served[1]), *events), *served).stream([5], Sampling(n=1)))
    assert [(one.ids, one.finish) for [one] in found] == [((5,), None), ((5, 6), None), ((5, 6), "end")]


class Unwilling(BaseHTTPRequestHandler):
    def do_POST(self):
        body = b'{"error": {"message": "no such thing"}}'
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def test_a_server_that_refuses_or_is_not_there():
    with ThreadingHTTPServer(("127.0.0.1", 0), Unwilling) as unwilling:
        threading.Thread(target=unwilling.serve_forever, daemon=True).start()
        server = Server(f"http://127.0.0.1:{unwilling.server_address[1]}/")
        assert server.generate([{}, {}]) == ["no such thing"] * 2
        with pytest.raises(GreamError, match="no such thing"):
            list(server.stream({}))
        unwilling.shutdown()
    with pytest.raises(GreamError, match="no answer from the SGLang server"):
        server.generate([{}])
    with pytest.raises(GreamError, match="no address"):
        Server("127.0.0.1:30000")
