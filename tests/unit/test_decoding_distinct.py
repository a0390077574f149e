"""Items drawn without replacement: against drawing one after another by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch

from gream_ext.decoding.distinct import distinct_items
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from tests.support.tiny_models import tiny_gemma2, tiny_qwen3
from tests.unit.test_decoding_beam import PROMPTS, catalogue


def likelihoods(model, prompt, ids, temperature):
    """The probability of each item, token by token over those that continue an item, by the slow way."""
    found = np.ones(len(ids))
    for row, identifier in enumerate(ids.tolist()):
        written = []
        for token in [token for token in identifier if token >= 0]:
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([prompt + written])).logits[0, -1].double() / temperature
            follows = sorted({other[len(written)] for other in ids.tolist() if other[: len(written)] == written})
            found[row] *= float(logits[follows].softmax(-1)[follows.index(token)])
            written.append(token)
    return found


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_pairs_come_as_often_as_when_drawn_one_after_another(temperature):
    model, ids = tiny_qwen3(), catalogue(3, seed=1)
    p, draws = likelihoods(model, PROMPTS[1], ids, temperature), 6000
    assert p.sum() == pytest.approx(1)
    found = distinct_items(LanguageModel(model), ItemTrie.build(ids), [PROMPTS[1]] * draws, 2, temperature,
                           range(draws)).tolist()  # fmt: skip
    for first, second in permutations(range(len(ids)), 2):
        expected = p[first] * p[second] / (1 - p[first])
        error = (expected * (1 - expected) / draws) ** 0.5
        assert found.count([first, second]) / draws == pytest.approx(expected, abs=4 * error + 1e-4)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("make", [tiny_qwen3, tiny_gemma2])
def test_all_differ_and_depend_on_prompt_and_seed_alone(make, mixed):
    model, trie = LanguageModel(make()), ItemTrie.build(catalogue(mixed=mixed))
    together = distinct_items(model, trie, PROMPTS, 9, 1.0, [1, 2, 3])
    assert all(len(set(rows)) == 9 for rows in together.tolist())
    for number, prompt in enumerate(PROMPTS):
        assert torch.equal(distinct_items(model, trie, [prompt], 9, 1.0, [number + 1])[0], together[number])
    # So that members of a group asked for in two places are of one draw.
    assert not torch.equal(distinct_items(model, trie, PROMPTS, 9, 1.0, [4, 5, 6]), together)


def test_the_whole_catalogue_and_no_more():
    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue(8))
    (rows,) = distinct_items(model, trie, PROMPTS[:1], len(trie), 1.0, [0]).tolist()
    assert sorted(rows) == list(range(len(trie)))
    with pytest.raises(GreamError, match="no 99 different ones"):
        distinct_items(model, trie, PROMPTS, 99, 1.0, [0, 1, 2])


def test_many_prompts_are_searched_some_at_a_time(monkeypatch):
    from gream_ext.decoding import distinct

    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue())
    together = distinct_items(model, trie, PROMPTS, 5, 1.0, [1, 2, 3])
    monkeypatch.setattr(distinct, "ROWS_AT_ONCE", 7)
    assert torch.equal(distinct_items(model, trie, PROMPTS, 5, 1.0, [1, 2, 3]), together)
