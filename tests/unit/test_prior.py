"""A prior in the beam against adding it to every item's score, and the prior that is counted from training pairs."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

import gream_ext
from gream_ext.data.co_occurrence import pair_counts
from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.decoding.beam import search
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import Evaluations, read_evaluation
from gream_ext.evaluation.stages import EVALUATE, EvaluateSettings
from gream_ext.inference.co_occurrence import CoOccurrence
from gream_ext.inference.export import write_export
from gream_ext.inference.source import workspace_source
from gream_ext.inference.stages import RECOMMEND, RecommendSettings
from gream_ext.items.index import ItemIndex
from tests.support.tiny_models import tiny_llama, tiny_qwen3
from tests.support.tiny_workspace import make_model_workspace
from tests.unit.test_decoding_beam import PROMPTS, catalogue, slow_scores


def some_prior(items, weight=0.7, seed=1):
    """Masses over twelve orders of magnitude, as counts beside a small smoothing have."""
    return Prior(10 ** np.random.default_rng(seed).uniform(-9, 3, (len(PROMPTS), items)), weight)


def log_shares(prior):
    return np.log(prior.masses / prior.masses.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama])
def test_a_wide_beam_ranks_by_the_exact_sum(make, normalisation, mixed, static):
    model, ids = make(), catalogue(8, mixed=mixed)
    prior = some_prior(len(ids))
    found = search(LanguageModel(model), ItemTrie.build(ids), PROMPTS, 50, None, normalisation, static, prior)
    for prompt, own, ranking in zip(PROMPTS, log_shares(prior), found, strict=True):
        exact = slow_scores(model, prompt, ids, normalisation) + prior.weight * own
        assert ranking.rows.tolist() == np.argsort(-exact, kind="stable").tolist()
        np.testing.assert_allclose(ranking.scores, exact[ranking.rows], atol=2e-3)


def test_every_node_has_the_mass_of_the_items_below_it():
    ids = catalogue(mixed=True)
    trie, prior = ItemTrie.build(ids), some_prior(len(ids), weight=1.0)
    kept = [np.arange(len(ids)), np.array([3, 4, 9]), np.setdiff1d(np.arange(len(ids)), [0, 2])]
    guide = prior.on(trie, [None, SubCatalogue.only(kept[1]), SubCatalogue.without([0, 2])])
    shares = np.exp(log_shares(prior))
    for request, allowed in enumerate(kept):
        for node in range(len(trie.tokens)):
            below = np.intersect1d(trie.rows[trie.begin[node] : trie.end[node]], allowed)
            if len(below):
                found = float(guide.of(torch.tensor(request), torch.tensor(node)))
                assert found == pytest.approx(np.log(shares[request, below].sum()), abs=1e-3)


def test_leaving_items_out_changes_the_score_of_no_other():
    model, ids = LanguageModel(tiny_qwen3()), catalogue(12, mixed=True)
    trie, prior = ItemTrie.build(ids), some_prior(len(ids))
    every = search(model, trie, PROMPTS, len(ids), prior=prior)
    kept = [np.array([1, 4, 5, 9]), np.setdiff1d(np.arange(len(ids)), [0, 2]), np.arange(len(ids))]
    parts = [SubCatalogue.only(kept[0]), SubCatalogue.without([0, 2]), None]
    for static in (False, True):
        found = search(model, trie, PROMPTS, len(ids), parts, static=static, prior=prior)
        for part, all_of_them, some in zip(found, every, kept, strict=True):
            wanted = np.isin(all_of_them.rows, some)
            assert part.rows.tolist() == all_of_them.rows[wanted].tolist()
            np.testing.assert_allclose(part.scores, all_of_them.scores[wanted], atol=1e-4)
    for row in range(0, len(ids), 5):  # the narrowest beam is not led to where nothing is left
        (alone,) = search(model, trie, PROMPTS[:1], 1, [SubCatalogue.only([row])], prior=prior.take([0]))
        assert alone.rows.tolist() == [row]
    nothing = search(model, trie, PROMPTS, 5, [None, SubCatalogue.only([]), None], prior=prior)
    alone = search(model, trie, [PROMPTS[2]], 5, prior=prior.take([2]))
    assert nothing[1].error and nothing[2].rows.tolist() == alone[0].rows.tolist()


def test_a_narrow_beam_finds_what_the_prior_alone_wants():
    """A sure prior leads one beam to its item from the first level on, which no rescoring of a list could."""
    model, ids = LanguageModel(tiny_qwen3()), catalogue()
    for row in range(0, len(ids), 5):
        masses = np.full((1, len(ids)), 1e-6)
        masses[0, row] = 1.0
        (ranking,) = search(model, ItemTrie.build(ids), PROMPTS[:1], 1, prior=Prior(masses, 5.0))
        assert ranking.rows.tolist() == [row]


@pytest.mark.parametrize("static", [False, True])
def test_a_weight_of_zero_changes_not_a_bit(static):
    model, ids = LanguageModel(tiny_qwen3()), catalogue(mixed=True)
    trie = ItemTrie.build(ids)
    parts = [None, SubCatalogue.only([1, 4, 5, 9]), SubCatalogue.without([0, 2, 7])]
    plain = search(model, trie, PROMPTS, 7, parts, static=static)
    for ours, theirs in zip(
        search(model, trie, PROMPTS, 7, parts, static=static, prior=some_prior(len(ids), 0.0)), plain, strict=True
    ):
        assert ours.rows.tobytes() == theirs.rows.tobytes() and ours.scores.tobytes() == theirs.scores.tobytes()


def test_pairs_are_counted_within_a_history_and_a_span():
    histories = [[0, 1, 2, 0], [3], [], [2, 2, 1]]
    expected = np.zeros((4, 4))
    for history in histories:
        for place, item in enumerate(history):
            for other in history[place + 1 : place + 3]:
                if item != other:
                    expected[item, other] += 1
                    expected[other, item] += 1
    assert (pair_counts(histories, 4, span=2).toarray() == expected).all()
    assert pair_counts([], 3).toarray().tolist() == np.zeros((3, 3)).tolist()


def test_the_mass_of_an_item_is_what_its_docstring_says():
    index = ItemIndex(("a", "b", "c", "d"), np.arange(4, dtype=np.int32)[:, None], (4,))
    prior = CoOccurrence.fitted(index, [("a", "b"), ("b", "c", "gone"), ("b", "c")], 0.3).prior([[0, 1], [], [0] * 11])
    np.testing.assert_allclose(prior.masses[0], [1 + 1, 1 + 0.8, 1 + 2, 1])  # b counts once, a .8 times
    assert prior.masses[1].tolist() == [1, 1, 1, 1] and prior.weight == 0.3
    np.testing.assert_allclose(prior.masses[2], [1, 1 + sum(0.8**age for age in range(10)), 1, 1])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return make_model_workspace(tmp_path_factory.mktemp("prior"))


def test_its_evaluation_stands_apart_from_the_models_own(workspace):
    plain, zero, half = (
        EvaluateSettings(),
        *(EvaluateSettings(prior="co-occurrence", prior_weight=weight) for weight in (0.0, 0.5)),
    )
    for settings in (plain, zero, half):
        EVALUATE.run(workspace, settings)
    assert EVALUATE.label_of(half) == "evaluate sft+co-occurrence0.5 direct test"
    own, nothing, found = (read_evaluation(EVALUATE.writes(workspace, one)[0]) for one in (plain, zero, half))
    assert nothing.equals(own) and not found["recommendations"].equals(own["recommendations"])
    about = json.loads(EVALUATE.writes(workspace, half)[1].read_text())
    assert about["model"] == "sft+co-occurrence0.5" and about["prior"] == "co-occurrence"
    index, cases = ItemIndex.load(workspace.item_index), evaluation_cases(workspace, "test")
    fitted = CoOccurrence.fitted(index, training_histories(workspace).values(), 0.5)
    masses = fitted.prior([[index.position[item] for item in case.history] for case in cases]).masses
    shares = [dict(zip(index.item_ids, row, strict=True)) for row in np.log(masses / masses.sum(1, keepdims=True))]
    own_scores = [dict(zip(*one, strict=True)) for one in own.select("recommendations", "scores").rows()]
    for scores, share, (items, sums) in zip(
        own_scores, shares, found.select("recommendations", "scores").rows(), strict=True
    ):
        both = [
            (scores[item] + 0.5 * share[item], total) for item, total in zip(items, sums, strict=True) if item in scores
        ]
        assert both and all(exact == pytest.approx(total, abs=1e-3) for exact, total in both)
    assert Evaluations(workspace).find("sft+co-occurrence0.5", "direct") is not None
    (workspace.model("sft") / "config.json").write_text((workspace.model("sft") / "config.json").read_text() + " ")
    assert Evaluations(workspace).find("sft+co-occurrence0.5", "direct") is None


def test_what_it_cannot_guide_is_refused_at_once():
    for other in ({"mode": "reason"}, {"engine": "sglang"}):
        with pytest.raises(GreamError, match="prior needs direct mode"):
            EvaluateSettings(prior="co-occurrence", **other)


def test_recommending_with_a_prior(workspace, tmp_path, capsys):
    item = next(iter(ItemIndex.load(workspace.item_index).item_ids))
    sure = gream_ext.load(workspace.root, prior_weight=50.0)
    near = Counter(
        other
        for history in training_histories(workspace).values()
        for place, one in enumerate(history)
        for other in history[max(0, place - 5) : place + 6]
        if one == item != other
    )
    first = sure.recommend([item], k=3)
    assert [near[one.item_id] for one in first] == sorted(near.values(), reverse=True)[:3]
    RECOMMEND.run(workspace, RecommendSettings(history=[item], n=3, prior="co-occurrence", prior_weight=50.0))
    assert all(one.title in capsys.readouterr().out for one in first[:1])
    write_export(workspace, workspace_source(workspace), tmp_path / "exported")
    with pytest.raises(GreamError, match="an export has no interactions"):
        gream_ext.load(tmp_path / "exported", prior_weight=0.5)
    with pytest.raises(GreamError, match="prior needs the transformers engine"):
        RecommendSettings(history=[item], prior="co-occurrence", engine="sglang")
