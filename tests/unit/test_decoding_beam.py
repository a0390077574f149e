"""Direct mode against scoring every item of the catalogue, one after another."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from gream_ext.decoding.beam import search
from gream_ext.decoding.language_model import LOGITS_AT_ONCE, LanguageModel
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from tests.support.tiny_models import tiny_gemma2, tiny_llama, tiny_qwen3

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18]]


def catalogue(items=30, seed=0, mixed=False):
    """Token ids of three levels and a slot, which with ``mixed`` some items do without."""
    generator = np.random.default_rng(seed)
    ids = np.unique(generator.integers(0, 4, (items * 3, 3)), axis=0)[:items] + np.array([20, 30, 40])
    slots = [(row, slot) for row in range(len(ids)) for slot in range(1 + row % 3)]
    full = np.array([[*ids[row], -1 if mixed and row % 3 == 0 else 50 + slot] for row, slot in slots])
    return full[generator.permutation(len(full))]


def slow_scores(model, prompt, ids, normalisation="catalogue"):
    """The log-probability of each identifier, token by token from its whole text."""
    scores = np.zeros(len(ids))
    for row, identifier in enumerate(ids.tolist()):
        written = []
        for token in [token for token in identifier if token >= 0]:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + written])).logits[0, -1]
            follows = {other[len(written)] for other in ids.tolist() if other[: len(written)] == written}
            over = logits if normalisation == "vocabulary" else logits[sorted(follows)]
            scores[row] += float(logits[token] - over.logsumexp(-1))
            written.append(token)
    return scores


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("make", [tiny_qwen3, tiny_gemma2])
def test_a_wide_beam_ranks_the_whole_catalogue(make, normalisation, mixed):
    model, ids = make(), catalogue(8, mixed=mixed)
    rankings = search(LanguageModel(model), ItemTrie.build(ids), PROMPTS, 50, normalisation=normalisation)
    for prompt, ranking in zip(PROMPTS, rankings, strict=True):
        expected = slow_scores(model, prompt, ids, normalisation)
        assert sorted(ranking.rows.tolist()) == list(range(len(ids)))
        assert (np.diff(ranking.scores) <= 0).all()
        np.testing.assert_allclose(ranking.scores, expected[ranking.rows], atol=2e-3)
        if normalisation == "catalogue":
            assert np.exp(ranking.scores.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("mixed", [False, True])
def test_neither_batch_nor_padding_nor_order_changes_anything(mixed):
    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue(mixed=mixed))
    together = search(model, trie, PROMPTS, 7)
    for number, prompt in enumerate(PROMPTS):
        (alone,) = search(model, trie, [prompt], 7)
        assert alone.rows.tolist() == together[number].rows.tolist()
        np.testing.assert_allclose(alone.scores, together[number].scores, atol=1e-4)
    backwards = search(model, trie, PROMPTS[::-1], 7)[::-1]
    assert [one.rows.tolist() for one in backwards] == [one.rows.tolist() for one in together]


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama])
def test_copying_the_prompt_for_every_beam_changes_nothing(make):
    model, trie = LanguageModel(make()), ItemTrie.build(catalogue())
    shared = search(model, trie, PROMPTS, 7)
    model.traits = replace(model.traits, shares_prompts=False)
    copied = search(model, trie, PROMPTS, 7)
    for ours, theirs in zip(shared, copied, strict=True):
        assert ours.rows.tolist() == theirs.rows.tolist()
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-3)


def test_leaving_items_out_changes_the_score_of_no_other():
    model, ids = LanguageModel(tiny_qwen3()), catalogue(12, mixed=True)
    trie = ItemTrie.build(ids)
    every = search(model, trie, PROMPTS, len(ids))
    kept = [np.array([1, 4, 5, 9]), np.setdiff1d(np.arange(len(ids)), [0, 2]), np.arange(len(ids))]
    parts = [SubCatalogue.only(kept[0]), SubCatalogue.without([0, 2]), None]
    for part, all_of_them, some in zip(search(model, trie, PROMPTS, len(ids), parts), every, kept, strict=True):
        wanted = np.isin(all_of_them.rows, some)
        assert part.rows.tolist() == all_of_them.rows[wanted].tolist()
        np.testing.assert_allclose(part.scores, all_of_them.scores[wanted], atol=1e-4)


def test_a_narrow_beam_still_reaches_what_is_allowed():
    model, ids = LanguageModel(tiny_qwen3()), catalogue()
    for row in range(0, len(ids), 5):
        (ranking,) = search(model, ItemTrie.build(ids), PROMPTS[:1], 1, [SubCatalogue.only([row])])
        assert ranking.rows.tolist() == [row]


def test_an_empty_sub_catalogue_fails_alone():
    model, ids = LanguageModel(tiny_qwen3()), catalogue()
    trie = ItemTrie.build(ids)
    nothing = [SubCatalogue.only([]), None, SubCatalogue.without(np.arange(len(ids)))]
    first, second, third = search(model, trie, PROMPTS, 5, nothing)
    assert "holds no item" in first.error and "holds no item" in third.error and not len(first.rows)
    assert second.error is None
    assert second.rows.tolist() == search(model, trie, PROMPTS, 5)[1].rows.tolist()
    assert [one.error is None for one in search(model, trie, PROMPTS[:1], 5, nothing[:1])] == [False]


def test_a_catalogue_of_one_item():
    (ranking,) = search(LanguageModel(tiny_qwen3()), ItemTrie.build(np.array([[20, 30]])), PROMPTS[:1], 20)
    assert ranking.rows.tolist() == [0] and ranking.scores.tolist() == [0.0]


def test_a_broken_model_recommends_nothing():
    model = tiny_qwen3()
    model.model.embed_tokens.weight.data[5] = float("nan")
    with pytest.raises(GreamError, match="no numbers"):
        search(LanguageModel(model), ItemTrie.build(catalogue()), PROMPTS, 5)


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
def test_a_model_that_gives_no_item_a_chance_is_an_error(normalisation):
    model = tiny_llama()
    model.lm_head = torch.nn.Linear(32, 120)
    model.lm_head.bias.data[20:60] = float("-inf")
    with pytest.raises(GreamError, match="its training diverged"):
        search(LanguageModel(model), ItemTrie.build(catalogue()), PROMPTS, 5, normalisation=normalisation)


class Counted(LanguageModel):
    """Says how many rows each forward call had after the prompts."""

    def __init__(self, model):
        self.rows = []
        super().__init__(model)
        self.rows.clear()

    def run(self, shared_prompt=None, **inputs):
        if inputs["input_ids"].shape[1] == 1:
            self.rows.append(len(inputs["input_ids"]))
        return super().run(shared_prompt, **inputs)


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_gemma2])
def test_the_model_is_not_asked_for_what_is_certain(make):
    ids = np.array([[20, 30, 40, 50], [20, 30, 41, 50], [21, 30, 40, 50], [22, 31, 40, 50], [22, 31, 40, 51]])
    model, trie = Counted(make()), ItemTrie.build(ids)
    rankings = search(model, trie, PROMPTS, 10)
    # After 20 and 22; then after 20 30 and 22 31; at last after 22 31 40. 21 leads to one item.
    assert model.rows == [6, 6, 3]
    for prompt, ranking in zip(PROMPTS, rankings, strict=True):
        np.testing.assert_allclose(ranking.scores, slow_scores(model.model, prompt, ids)[ranking.rows], atol=2e-3)
    model.rows.clear()
    search(model, trie, PROMPTS, 10, normalisation="vocabulary")
    assert model.rows == [9, 9, 12]
    model.rows.clear()
    search(model, ItemTrie.build(ids[[0, 2, 3]]), PROMPTS, 10)
    assert model.rows == []


def test_requests_of_which_one_is_certain_early():
    """One request is done after a token while the others go on: each keeps its own prompt."""
    model, ids = LanguageModel(tiny_qwen3()), catalogue()
    trie = ItemTrie.build(np.concatenate([ids, [[23 + 3, 30, 40, 50]]]))
    parts = [None, SubCatalogue.only([len(ids)]), SubCatalogue.without([len(ids)])]
    together = search(model, trie, PROMPTS, 7, parts)
    assert together[1].rows.tolist() == [len(ids)]
    for number, part in enumerate(parts):
        (alone,) = search(model, trie, PROMPTS[number : number + 1], 7, [part])
        assert alone.rows.tolist() == together[number].rows.tolist()
        np.testing.assert_allclose(alone.scores, together[number].scores, atol=1e-4)


def test_neither_rows_of_logits_nor_prompts_at_once_change_anything(monkeypatch):
    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue())
    found = [search(model, trie, PROMPTS, 7, normalisation=one) for one in ("vocabulary", "catalogue")]
    monkeypatch.setitem(LOGITS_AT_ONCE, "cpu", 3)
    monkeypatch.setattr("gream_ext.decoding.continuation.TOKENS_AT_ONCE", 8)
    again = [search(model, trie, PROMPTS, 7, normalisation=one) for one in ("vocabulary", "catalogue")]
    for before, after in zip(chain(*found), chain(*again), strict=True):
        assert before.rows.tolist() == after.rows.tolist()
        np.testing.assert_allclose(before.scores, after.scores, atol=1e-4)
