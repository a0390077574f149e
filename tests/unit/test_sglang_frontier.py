"""The beams of our SGLang plug-in against every item scored one by one; no SGLang is needed for that."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.inference.engines.sglang_request import IMPOSSIBLE
from gream_ext.items.index import NO_CODE
from gream_ext.plugins.sglang.frontier import Frontier

VOCABULARY = 40


def model(prefix):
    """Logits float64 [vocabulary] of a made-up model that looks at all tokens so far."""
    seed = sum((place + 1) * 101 * (token + 7) for place, token in enumerate(prefix))
    return np.random.default_rng(seed).normal(size=VOCABULARY) * 2


def score(ids, identifier, normalisation):
    """The log-probability of an identifier, level by level."""
    total = 0.0
    for level, token in enumerate(identifier):
        logits = model(identifier[:level])
        every = logits
        if normalisation == "catalogue":
            every = logits[sorted({row[level] for row in ids if row[:level] == identifier[:level]})]
        total += logits[token] - np.log(np.exp(every).sum())
    return total


def search(trie, frontier, beams):
    """What SGLang does with the candidates: the best of all beams, step by step. Items and scores, best first."""
    scores, written = torch.zeros(1), [[]]
    for _ in range(trie.levels):
        logits = torch.tensor(np.array([model([token for token in own if token is not None]) for own in written]))
        gains, tokens = frontier.candidates(logits, 2 * beams)
        assert gains.shape == tokens.shape == (len(written), 2 * beams)
        best, places = (scores[:, None] + gains).flatten().topk(beams)
        parents = places // (2 * beams)
        chosen = tokens.flatten()[places]
        written = [[*written[parent], token] for parent, token in zip(parents.tolist(), chosen.tolist(), strict=True)]
        frontier.follow(chosen, parents)
        scores = best
    real = scores > IMPOSSIBLE / 2
    return [trie.row_of(frontier.nodes[real]).tolist(), scores[real].tolist()]


@st.composite
def catalogues(draw):
    rows = draw(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20, unique=True))
    ids = np.array(rows) + 10 * np.arange(1, 4)
    # The first items of some prefixes have no last level, as with `conflict_slot: colliding`.
    alone = [(ids[:, :2] == row[:2]).all(1).sum() == 1 for row in ids]
    if draw(st.booleans()):
        ids[np.array(alone), 2] = NO_CODE
    return ids


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@given(ids=catalogues(), chance=st.integers(0, 1000))
def test_wide_beams_find_every_item_with_its_score(normalisation, ids, chance):
    trie = ItemTrie.build(ids)
    generator = np.random.default_rng(chance)
    some = np.flatnonzero(generator.random(len(ids)) < 0.6)
    for part, allowed in (
        (None, range(len(ids))),
        (SubCatalogue.only(some), some),
        (SubCatalogue.without(some), np.setdiff1d(np.arange(len(ids)), some)),
    ):
        frontier = Frontier(trie, part, normalisation)
        rows, scores = search(trie, frontier, len(ids) + 2)
        identifiers = [[token for token in row if token != NO_CODE] for row in ids.tolist()]
        expected = {int(row): score(identifiers, identifiers[row], normalisation) for row in allowed}
        assert sorted(rows) == sorted(expected)
        np.testing.assert_allclose(scores, [expected[row] for row in rows], atol=1e-4)
        assert scores == sorted(scores, reverse=True)
