"""The plug-in within SGLang, without a server: names, hooks that fail, and xgrammar's own tag as the reference."""

import json
import os
import subprocess
import sys
from functools import partial
from inspect import unwrap
from operator import attrgetter

import numpy as np
import pytest

pytest.importorskip("sglang", reason="needs the environment of `make test-sglang`")

import torch
import xgrammar
from sglang.srt.beam_search import coordinator
from sglang.srt.beam_search.beam_group import BeamGroup

from gream_ext.decoding.faithful import FaithfulHistory, HistoryProcessor, Rewriting
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.sglang_request import TRIE_VARIABLE, AnswerTag, fingerprint
from gream_ext.plugins import relied_on
from gream_ext.plugins.sglang import internals, problems
from gream_ext.plugins.sglang.answers import AnswerGrammar, grammar
from gream_ext.plugins.sglang.beams import FRONTIER, Beams, Rows
from gream_ext.plugins.sglang.catalogue import Catalogue

VOCABULARY, BEGIN, END, STOP = 96, 2, 3, 1
IDENTIFIERS = np.array([[10, 20, 30], [10, 20, 31], [10, 21, 30], [11, 20, 30], [11, 22, -1], [12, 22, 31]])


@pytest.fixture
def catalogue() -> Catalogue:
    trie = ItemTrie.build(IDENTIFIERS)
    return Catalogue(trie, fingerprint(trie))


def sglangs_own(name: str):
    """Unhooked, for an offline engine of other tests has hooked this process as well."""
    return unwrap(attrgetter(name)(coordinator))


def allowed_by(mask: torch.Tensor) -> set[int]:
    bits = np.unpackbits(mask[0].numpy().view(np.uint8), bitorder="little")[:VOCABULARY]
    return set(np.flatnonzero(bits).tolist())


def xgrammar_matcher(identifiers: np.ndarray) -> xgrammar.GrammarMatcher:
    """SGLang's own way: a token-level structural tag that lists every item."""
    items = [
        {"type": "sequence", "elements": [{"type": "token", "token": int(token)} for token in row if token >= 0]}
        for row in identifiers
    ]
    tag = {
        "type": "structural_tag",
        "format": {
            "type": "token_triggered_tags",
            "trigger_tokens": [BEGIN],
            "tags": [
                {
                    "type": "tag",
                    "begin": {"type": "token", "token": BEGIN},
                    "content": {"type": "or", "elements": items},
                    "end": {"type": "token", "token": END},
                }
            ],
            "stop_after_first": True,
        },
    }
    vocabulary = [f"<{token}>" for token in range(VOCABULARY)]
    info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.RAW, vocab_size=VOCABULARY, stop_token_ids=[STOP])
    compiler = xgrammar.GrammarCompiler(info, cache_enabled=False)
    return xgrammar.GrammarMatcher(compiler.compile_structural_tag(json.dumps(tag)))


@pytest.mark.parametrize("row", range(len(IDENTIFIERS)))
def test_our_tag_allows_what_xgrammars_allows(catalogue, row):
    ours = AnswerGrammar(catalogue, AnswerTag(catalogue.name, BEGIN, END, None, None))
    theirs = xgrammar_matcher(IDENTIFIERS)
    mine, expected = (xgrammar.allocate_token_bitmask(1, VOCABULARY) for _ in range(2))
    for place, token in enumerate([5, 40, BEGIN, *(token for token in IDENTIFIERS[row].tolist() if token >= 0), END]):
        ours.fill_vocab_mask(mine, 0)
        theirs.fill_next_token_bitmask(expected, 0)
        # Before the answer xgrammar also asks for one; with ours a model may end without, and that is reported.
        free = set(range(VOCABULARY)) if place < 3 else None
        assert allowed_by(mine) == (free or allowed_by(expected))
        ours.accept_token(token)
        assert theirs.accept_token(token)
    assert ours.is_terminated()


def test_a_grammar_takes_tokens_back_and_refuses_wrong_ones(catalogue):
    part = SubCatalogue.only([1, 4])
    grammar = AnswerGrammar(catalogue, AnswerTag(catalogue.name, BEGIN, END, (10,), part))
    assert grammar.limit().allowed == [20]
    grammar.accept_token(20)
    assert grammar.limit().allowed == [31]
    with pytest.raises(ValueError, match="no item"):
        grammar.accept_token(32)
    grammar.accept_token(31)
    assert grammar.limit().allowed == [END]
    grammar.rollback(2)
    assert grammar.limit().allowed == [20] and not grammar.is_terminated()
    assert grammar.copy().limit().allowed == [20]


def test_a_grammar_that_fails_names_nothing(catalogue, monkeypatch):
    grammar = AnswerGrammar(catalogue, AnswerTag(catalogue.name, BEGIN, END, (), None))
    monkeypatch.setattr(grammar, "limit", lambda: 1 / 0)
    mask = xgrammar.allocate_token_bitmask(1, VOCABULARY)
    grammar.fill_vocab_mask(mask, 0)
    assert allowed_by(mask) == {END}
    with pytest.raises(ValueError, match="no item"):
        grammar.accept_token(END)


def test_what_is_written_of_the_history_keeps_to_it(catalogue):
    """Of every token: what our sampler's processor leaves possible is what the mask does, and what is accepted."""
    rewriting = Rewriting(begin=3, end=BEGIN, separators=(4,), identifiers=tuple(range(10, 40)))
    asked = AnswerTag(catalogue.name, BEGIN, END, None, None, rewriting, (1, 0))
    tag = AnswerTag.read(asked.text())
    assert tag == asked
    history = [[token for token in IDENTIFIERS[row].tolist() if token >= 0] for row in (1, 0)]
    mask = xgrammar.allocate_token_bitmask(1, VOCABULARY)
    written = [5, 3, 6, *history[0], 4, *history[1], 4, BEGIN]
    for place, token in enumerate(written):
        grammar = AnswerGrammar(catalogue, tag)
        ours = HistoryProcessor([FaithfulHistory.of(rewriting, catalogue.trie, (1, 0))])
        for before in range(place + 1):
            scores = ours(torch.tensor([[0, *written[:before]]]), torch.zeros(1, VOCABULARY))
        for before in written[:place]:
            grammar.accept_token(before)
        grammar.fill_vocab_mask(mask, 0)
        assert allowed_by(mask) == set(scores[0].isfinite().nonzero()[:, 0].tolist())
        for other in sorted(set(range(VOCABULARY)) - allowed_by(mask)):
            with pytest.raises(ValueError, match="no item"):
                grammar.accept_token(other)
        assert token in allowed_by(mask)
    assert allowed_by(mask).isdisjoint(range(10, 40))  # both items are written


def test_tags_of_others_are_left_alone(catalogue):
    answer = partial(grammar, catalogue)
    theirs = json.dumps({"type": "structural_tag", "format": {"type": "any_text"}})
    for key in (("json", "{}"), ("structural_tag", theirs)):
        assert answer(lambda backend, key, reasoning: key, None, key, False) == key
    ours = AnswerTag("another", BEGIN, END, None, None).text()
    refused, cached = answer(None, None, ("structural_tag", ours), False)
    assert cached and "serves the catalogue" in refused.error_message
    wrong = ours.replace('"begin"', '"began"')
    refused, _ = answer(None, None, ("structural_tag", wrong), False)
    assert "misshapen" in refused.error_message


def test_a_beam_request_that_fails_ends_alone(catalogue, caplog):
    class Broken:
        def candidates(self, logits, count):
            raise RuntimeError("on purpose")

        def follow(self, tokens, parents):
            raise RuntimeError("on purpose too")

    class Leader:
        to_finish = None

    group = BeamGroup(beam_width=2, max_new_tokens=3)
    group.leader = Leader()
    setattr(group, FRONTIER, Broken())
    rows = Rows(lambda pieces, count: pytest.fail("not ours"), [torch.randn(1, VOCABULARY)], 4)
    tokens, parents = Beams(catalogue).select(sglangs_own("BeamCoordinator._select_group"), None, group, rows, None, 0)
    assert len(tokens) == len(parents) == 2
    assert "on purpose" in group.leader.to_finish.message and "failed" in caplog.text


def test_requests_of_others_are_ranked_as_ever(catalogue):
    group = BeamGroup(beam_width=2, max_new_tokens=3)
    logits = torch.randn(1, VOCABULARY)
    beams = Beams(catalogue)
    rows, nothing = beams.rank(sglangs_own("_rows_topk_logprobs"), [logits], 4)
    tokens, _ = beams.select(sglangs_own("BeamCoordinator._select_group"), None, group, rows, nothing, 0)
    assert tokens.tolist() == logits[0].topk(2).indices.tolist()


def test_the_names_are_there_and_another_version_is_refused(monkeypatch):
    assert problems() == {"beams": "", "answers": ""}
    monkeypatch.setitem(internals.NAMES["beams"], "sglang.srt.beam_search.coordinator", {"BeamCoordinator.gone": ()})
    assert "has no" in problems()["beams"] and "0.5.23" in problems()["beams"]
    monkeypatch.setattr(relied_on, "installed", lambda distribution: "0.5.99")
    with pytest.raises(GreamError, match=r"0\.5\.99 is not a version"):
        internals.check()


LOAD = """
from sglang.srt.plugins import load_plugins
load_plugins()
import sglang.srt.beam_search.coordinator as coordinator
print("hooked", hasattr(coordinator._rows_topk_logprobs, "__wrapped__"))
"""


@pytest.mark.parametrize("named", ["nothing", "a trie", "no trie"])
def test_sglang_is_hooked_when_a_catalogue_is_named_and_not_otherwise(catalogue, tmp_path, named):
    path = tmp_path / "trie.safetensors"
    if named == "a trie":
        catalogue.trie.save(path)
    environment = {name: value for name, value in os.environ.items() if name != TRIE_VARIABLE}
    if named != "nothing":
        environment[TRIE_VARIABLE] = str(path)
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)
    if named == "no trie":
        assert done.returncode == 1 and "cannot constrain" in done.stderr and "hooked" not in done.stdout
    else:
        assert done.returncode == 0, done.stderr
        assert f"hooked {named == 'a trie'}" in done.stdout
