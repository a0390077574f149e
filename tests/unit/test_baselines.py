"""Most popular, Markov and co-occurrence, by hand and as a stage."""

from collections import Counter
from itertools import pairwise, product

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.baselines import (
    RANKERS,
    co_occurrence_ranker,
    markov_ranker,
    popular_items,
    popular_ranker,
    popularity,
)
from gream_ext.evaluation.files import read_evaluation
from gream_ext.evaluation.protocol import values
from gream_ext.evaluation.stages import BASELINES as STAGE
from gream_ext.evaluation.stages import BaselinesSettings
from gream_ext.workspace import INTERACTIONS, write_table
from tests.support.synthetic import make_workspace

HISTORIES = {"u1": ("a", "b", "c"), "u2": ("a", "b"), "u3": ("b", "a", "c", "d")}
ITEMS = ("e", "d", "c", "b", "a")


def test_popular_by_hand():
    assert popularity(HISTORIES, ITEMS) == {"b": 3, "a": 3, "c": 2, "d": 1, "e": 0}
    rank = popular_ranker(HISTORIES, ITEMS)
    assert rank(("d",), (), 3) == [("b", 3.0), ("a", 3.0), ("c", 2.0)]
    assert [item for item, _ in rank(("d",), {"b", "c"}, 9)] == ["a", "d", "e"]
    assert popular_items(HISTORIES, ITEMS) == ["b"]


def test_markov_by_hand():
    rank = markov_ranker(HISTORIES, ITEMS)
    # a is followed by b twice and by c once; then by popularity.
    assert [item for item, _ in rank(("d", "a"), (), 5)] == ["b", "c", "a", "d", "e"]
    # b is followed by c and a once each: a is more popular.
    assert [item for item, _ in rank(("b",), {"c"}, 5)] == ["a", "b", "d", "e"]
    for history in ((), ("e",)):
        assert [item for item, _ in rank(history, (), 5)] == ["b", "a", "c", "d", "e"]
    scores = [score for _, score in rank(("a",), (), 5)]
    assert scores == sorted(scores, reverse=True) and scores[0] == pytest.approx(2.3)


def test_the_stage_equals_a_slow_reference_and_is_deterministic(tmp_path):
    workspace = make_workspace(tmp_path)
    STAGE.run(workspace, BaselinesSettings())
    rows = read_evaluation(workspace.path("evaluation", "markov", "direct-test-unseen"))
    train, cases = training_histories(workspace), evaluation_cases(workspace, "test")
    popular = Counter(item for history in train.values() for item in history)
    pairs = Counter(pair for history in train.values() for pair in pairwise(history))
    assert rows["user_id"].to_list() == [case.user_id for case in cases]
    for case, recommended in zip(cases, rows["recommendations"].to_list(), strict=True):
        assert len(set(recommended)) == 20 and not set(recommended) & set(case.history)
        keys = [(-pairs[case.history[-1], item], -popular[item]) for item in recommended]
        assert keys == sorted(keys)
    rows = read_evaluation(workspace.path("evaluation", "markov", "direct-test"))
    assert values(rows, "recall@10").mean() > 0.5  # the made-up walk is nearly Markov
    before = {path: path.read_bytes() for path in STAGE.writes(workspace, BaselinesSettings())}
    assert len(before) == 12
    STAGE.run(workspace, BaselinesSettings())
    assert {path: path.read_bytes() for path in before} == before


def test_they_are_fitted_on_training_interactions_only(tmp_path):
    workspace = make_workspace(tmp_path)
    STAGE.run(workspace, BaselinesSettings())
    before = read_evaluation(workspace.path("evaluation", "popular", "direct-test"))
    # Other held-out interactions, same training ones: the same popular items.
    frame = pl.read_parquet(workspace.interactions)
    held_out = pl.when(pl.col("split") == "train").then("item_id").otherwise(pl.lit("i79"))
    write_table(frame.with_columns(item_id=held_out), workspace.interactions, INTERACTIONS)
    STAGE.run(workspace, BaselinesSettings())
    after = read_evaluation(workspace.path("evaluation", "popular", "direct-test"))
    assert before["recommendations"].to_list() == after["recommendations"].to_list()
    assert set(after["target"].to_list()) == {"i79"}


def test_the_history_at_test_time_ends_with_the_validation_item(tmp_path):
    workspace = make_workspace(tmp_path)
    frame = pl.read_parquet(workspace.interactions)
    STAGE.run(workspace, BaselinesSettings())
    markov = read_evaluation(workspace.path("evaluation", "markov", "direct-test"))
    rank = markov_ranker(training_histories(workspace), pl.read_parquet(workspace.item_index)["item_id"].to_list())
    valid = dict(frame.filter(pl.col("split") == "valid").select("user_id", "item_id").rows())
    for user, recommended in markov.select("user_id", "recommendations").rows():
        assert [item for item, _ in rank((valid[user],), (), 20)] == recommended


def test_cutoffs_beyond_the_list_are_refused():
    for cutoffs in ((), (0,), (1, 21)):
        with pytest.raises(GreamError, match="cutoffs must be from 1 to 20"):
            BaselinesSettings(cutoffs=cutoffs)
    assert np.all(np.array(BaselinesSettings().cutoffs) > 0)


@given(
    st.dictionaries(st.sampled_from("uvwxyz"), st.lists(st.sampled_from("abcdefgh"), max_size=6), min_size=1),
    st.lists(st.sampled_from("abcdefgh"), max_size=5),
    st.integers(1, 9),
)
def test_every_ranker_ranks_what_is_left_and_scores_fall(histories, history, count):
    items = "abcdefgh"
    for make in RANKERS.values():
        rank = make(histories, items)
        everything = rank(history, (), 8)
        assert sorted(item for item, _ in everything) == sorted(items)
        assert [score for _, score in everything] == sorted((score for _, score in everything), reverse=True)
        left = [one for one in everything if one[0] not in history]
        assert rank(history, set(history), count) == left[:count]
        assert rank(history, set(items), count) == []


def test_scores_say_how_often_and_how_popular():
    """Two that followed equally often stand by popularity, as their scores do; an item's share is below one."""
    rank = markov_ranker(HISTORIES, ITEMS)
    assert dict(rank(("b",), (), 5)) == pytest.approx({"a": 1 + 3 / 10, "c": 1 + 2 / 10, "b": 0.3, "d": 0.1, "e": 0.0})
    one_item = markov_ranker({"u": ("a", "a")}, ("a", "b"))
    assert one_item((), (), 2)[0][1] < 1


def test_the_popular_tenth():
    items = [f"i{number}" for number in range(40)]
    histories = {f"u{number}": [f"i{number}"] * (number % 7) for number in range(40)}
    assert popular_items(histories, items) == ["i6", "i13", "i20", "i27"]
    assert popular_items({}, items[:9]) == ["i0"]


def test_the_whole_history_is_excluded(tmp_path):
    """Also what stands before the window of a prompt."""
    workspace = make_workspace(tmp_path)
    frame = pl.read_parquet(workspace.interactions)
    items = pl.read_parquet(workspace.item_index)["item_id"].to_list()[:32]
    splits = ["train"] * 30 + ["valid", "test"]
    longer = {"user_id": "u0", "item_id": items, "position": range(32), "timestamp": None, "split": splits}
    others = frame.filter(pl.col("user_id") != "u0")
    write_table(
        pl.concat([others, pl.DataFrame(longer).cast(dict(frame.schema))]), workspace.interactions, INTERACTIONS
    )
    STAGE.run(workspace, BaselinesSettings())
    rows = read_evaluation(workspace.path("evaluation", "popular", "direct-test-unseen"))
    for case, items in zip(evaluation_cases(workspace, "test"), rows["recommendations"].to_list(), strict=True):
        assert not set(items) & set(case.history)
    assert max(len(case.history) for case in evaluation_cases(workspace, "test")) > 20


@given(
    st.dictionaries(st.sampled_from("uvwxyz"), st.lists(st.sampled_from("abcdefgh"), max_size=14), min_size=1),
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=14),
)
def test_co_occurrence_counts_pairs_up_to_five_apart_of_the_ten_latest(histories, history):
    """Against a slow count: 1 + sum of .8^age times the pairs of the item with each of the ten latest items."""
    pairs = Counter(
        pair
        for items in histories.values()
        for first, second in product(range(len(items)), repeat=2)
        if 0 < abs(first - second) <= 5 and items[first] != items[second]
        for pair in [(items[first], items[second])]
    )
    scores = dict(co_occurrence_ranker(histories, "abcdefgh")(history, (), 8))
    for item in "abcdefgh":
        latest = enumerate(history[:-11:-1])
        assert scores[item] == pytest.approx(1 + sum(0.8**age * pairs[one, item] for age, one in latest))
