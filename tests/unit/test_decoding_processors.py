"""What the logits processors leave possible, step by step."""

import numpy as np
import pytest
import torch

from gream_ext.decoding.processors import AnswerProcessor, ItemProcessor
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.sampler import sample_tokens
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from tests.support.tiny_models import tiny_qwen3

IDS = np.array([[20, 30, 40], [20, 30, 41], [20, 31, -1], [21, 30, 40]])
TRIE = ItemTrie.build(IDS)
BEGIN, END, EOS = 60, 61, 1


def possible(processor, rows):
    scores = torch.arange(float(70)).repeat(len(rows), 1)
    processed = processor(torch.tensor(rows), scores)
    assert torch.equal(scores, torch.arange(float(70)).repeat(len(rows), 1))
    found = [torch.nonzero(torch.isfinite(row))[:, 0].tolist() for row in processed]
    for row, tokens in zip(processed, found, strict=True):
        assert row[tokens].tolist() == [float(token) for token in tokens]
    return [tokens if len(tokens) < 70 else "free" for tokens in found]


def test_items_from_the_prompts_end_on():
    processor = ItemProcessor(TRIE, prompt_length=2, end_token_id=EOS)
    assert possible(processor, [[20, 5]]) == [[20, 21]]
    assert possible(processor, [[0, 5, 20], [7, 5, 21]]) == [[30, 31], [30]]
    assert possible(processor, [[0, 5, 20, 31], [0, 5, 20, 30], [0, 5, 9, 30]]) == [[EOS], [40, 41], [EOS]]
    assert possible(processor, [[0, 5, 20, 31, EOS], [0, 5, 20, 30, 41], [0, 5, 9, 30, 2]]) == [[EOS]] * 3
    assert possible(processor, [[0, 5, 20, 31, EOS, EOS, EOS]]) == [[EOS]]


def test_answers_after_their_marker():
    processor = AnswerProcessor(TRIE, BEGIN, END)
    rows = [[3, 4, 5, 6], [3, 4, 5, BEGIN], [3, 4, BEGIN, 20], [3, BEGIN, 20, 31], [BEGIN, 20, 30, 41]]
    assert possible(processor, rows) == ["free", [20, 21], [30, 31], [END], [END]]
    # After the end, in a prompt that merely speaks of answers, after a second marker, in a short text.
    rows = [[BEGIN, 20, 31, END], [3, BEGIN, 5, END], [BEGIN, 20, 31, BEGIN], [3, BEGIN, 4, 20]]
    assert possible(processor, rows) == ["free", "free", [20, 21], "free"]
    assert possible(processor, [[BEGIN]]) == [[20, 21]]


def test_each_request_has_its_own_sub_catalogue():
    parts = [SubCatalogue.only([0, 2]), SubCatalogue.without([0, 1, 2])]
    items = ItemProcessor(TRIE, 1, EOS, parts, rows_per_request=2)
    assert possible(items, [[3]] * 4) == [[20], [20], [21], [21]]
    assert possible(items, [[3, 20]] * 2 + [[3, 21]] * 2) == [[30, 31], [30, 31], [30], [30]]
    answers = AnswerProcessor(TRIE, BEGIN, END, parts, rows_per_request=2)
    assert possible(answers, [[3, BEGIN]] * 4) == [[20], [20], [21], [21]]
    assert possible(answers.at_rows(np.array([1, 3])), [[3, BEGIN]] * 2) == [[20], [21]]


def test_an_empty_sub_catalogue_is_refused_before_anything_is_generated():
    for make in (lambda parts: ItemProcessor(TRIE, 1, EOS, parts), lambda parts: AnswerProcessor(TRIE, 1, 2, parts)):
        with pytest.raises(GreamError, match="request 1 holds no item"):
            make([None, SubCatalogue.only([])])


def test_sampled_answers_are_real_items():
    model = tiny_qwen3(70)
    prompts = [[3, 4, BEGIN], [5, BEGIN]] * 50
    parts = [None, SubCatalogue.without([3])] * 50
    samples = sample_tokens(
        model,
        prompts,
        temperature=1.0,
        top_p=1.0,
        max_new_tokens=5,
        eos_token_id=END,
        pad_token_id=0,
        seed=0,
        logits_processors=[AnswerProcessor(TRIE, BEGIN, END, parts)],
    )
    items = {tuple(token for token in row if token >= 0): number for number, row in enumerate(IDS.tolist())}
    named = [items[tuple(sample.ids[:-1])] for sample in samples]
    assert all(sample.ids[-1] == END and sample.ended for sample in samples)
    assert set(named[::2]) == {0, 1, 2, 3} and set(named[1::2]) == {0, 1, 2}


def test_an_identifier_that_nothing_allowed_ends_is_not_ended():
    """As where a prompt ends within an answer, and the request may not be given what begins so."""
    trie = ItemTrie.build(np.array([[20, 30], [20, 31], [21, 30]]))
    scores = torch.zeros(1, 60)
    begun = torch.tensor([[5, 50, 20]])
    for part, allowed in ((None, [30, 31]), (SubCatalogue.only([1]), [31]), (SubCatalogue.only([2]), [])):
        limited = AnswerProcessor(trie, 50, 51, parts=[part])(begun, scores)
        assert limited[0].isfinite().nonzero()[:, 0].tolist() == allowed
