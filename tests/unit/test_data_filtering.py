"""k-core and leave-one-out against slow, obvious references."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.data.filtering import k_core
from gream_ext.data.ids import codes, compact
from gream_ext.data.prepare import statistics
from gream_ext.data.splitting import leave_one_out, merge_repeats, split_by_time
from gream_ext.errors import GreamError

rows = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.integers(0, 5)), max_size=60)


def table(triples):
    schema = {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Int64}
    return pl.DataFrame(triples, schema=schema, orient="row")


def slow_k_core(triples, k):
    while True:
        users = Counter(user for user, _, _ in triples)
        items = Counter(item for _, item, _ in triples)
        kept = [row for row in triples if users[row[0]] >= k and items[row[1]] >= k]
        if kept == triples:
            return kept
        triples = kept


@given(rows, st.integers(0, 4), st.booleans())
def test_k_core_is_the_obvious_one(triples, k, as_categories):
    frame = compact(table(triples)) if as_categories else table(triples)
    assert k_core(frame, k).cast({"user_id": pl.String, "item_id": pl.String}).rows() == slow_k_core(triples, k)


def test_k_core_by_hand():
    # c goes for want of purchases, then z for want of buyers, then b, who is left with one.
    triples = [("a", "x", 0), ("a", "y", 1), ("b", "z", 2), ("b", "x", 3), ("c", "z", 4), ("d", "x", 5), ("d", "y", 6)]
    kept = k_core(table(triples), 2)
    assert kept.rows() == [("a", "x", 0), ("a", "y", 1), ("d", "x", 5), ("d", "y", 6)]


@given(st.lists(st.sampled_from("abcd")))
def test_codes_count_by_first_appearance(ids):
    order = list(dict.fromkeys(ids))
    assert codes(pl.Series(ids, dtype=pl.String)).tolist() == [order.index(one) for one in ids]


@pytest.mark.parametrize("as_categories", [False, True])
@given(triples=rows)
def test_leave_one_out_is_the_obvious_one(as_categories, triples):
    frame = compact(table(triples)) if as_categories else table(triples)
    expected = []
    for user in dict.fromkeys(user for user, _, _ in triples):
        history = sorted((row for row in triples if row[0] == user), key=lambda row: row[2])  # stable: ties by row
        splits = ["train"] * (len(history) - 2) + ["valid", "test"] if len(history) >= 3 else ["train"] * len(history)
        expected += [
            (user, item, position, time, split)
            for position, ((_, item, time), split) in enumerate(zip(history, splits, strict=True))
        ]
    assert leave_one_out(frame).cast({pl.Categorical: pl.String, pl.Enum: pl.String}).rows() == expected


HOURS = [
    ("a", "x", 0),
    ("a", "y", 5),
    ("a", "z", 5),
    ("b", "x", 7),
    ("b", "y", 1),
    ("b", "x", 9),
    ("c", "z", 8),
    ("c", "x", 9),
]


@pytest.mark.parametrize("held_out", [0.1, 0.3, 0.5, 0.9])
@given(triples=rows)
def test_a_split_by_time_trains_on_nothing_after_the_moment(held_out, triples):
    if not triples:
        return
    found = split_by_time(table(triples), held_out).cast({pl.Categorical: pl.String, pl.Enum: pl.String})
    train, rest = (found.filter((pl.col("split") == "train") == trained) for trained in (True, False))
    if len(train) and len(rest):
        assert train["timestamp"].max() < rest["timestamp"].min()
    assert rest["timestamp"].max() == found["timestamp"].max() if len(rest) else True
    valid, test = (found.filter(split=name) for name in ("valid", "test"))
    if len(valid) and len(test):
        assert valid["timestamp"].max() < test["timestamp"].min()
    for targets in (valid, test):
        assert targets["user_id"].is_unique().all()
        assert (targets["position"] > 0).all(), "something stands before each target"
    whole = leave_one_out(table(triples)).cast({pl.Categorical: pl.String, pl.Enum: pl.String})
    assert found.drop("split").equals(whole.drop("split")), "nothing is lost, and the order is the same"


def test_a_split_by_time_by_hand():
    found = split_by_time(table(HOURS), 0.5).cast({pl.Categorical: pl.String, pl.Enum: pl.String})
    # times 0 1 5 5 | 7 8 | 9 9: validation from 7, test from 9.
    assert found.select("user_id", "item_id", "split").rows() == [
        ("a", "x", "train"), ("a", "y", "train"), ("a", "z", "train"),
        ("b", "y", "train"), ("b", "x", "valid"), ("b", "x", "test"),
        ("c", "z", "context"), ("c", "x", "test"),
    ]  # fmt: skip
    alone = split_by_time(table([("a", "x", time) for time in range(100)]), 0.2)
    targets = {split: alone.filter(split=split)["position"].to_list() for split in ("valid", "test")}
    assert targets == {"valid": [89], "test": [99]} and alone.filter(split="train").height == 80
    with pytest.raises(GreamError, match="--split time needs timestamps"):
        split_by_time(table(HOURS).rename({"timestamp": "position"}), 0.5)


@pytest.mark.parametrize("keep", ["first", "last"])
@given(triples=rows)
def test_repeats_are_merged_by_time(keep, triples):
    placed = sorted(range(len(triples)), key=lambda row: (triples[row][2], row), reverse=keep == "last")
    kept = {triples[row][:2]: row for row in reversed(placed)}
    found = merge_repeats(table(triples), keep)
    assert found.rows() == [triples[row] for row in sorted(kept.values())]


@given(triples=rows, seed=st.integers(0, 3))
def test_shuffled_ties_keep_to_the_time(triples, seed):
    shuffled, again = (leave_one_out(table(triples), np.random.default_rng(seed)) for _ in range(2))
    assert shuffled.equals(again), "the same seed, the same order"
    plain = leave_one_out(table(triples))
    for name in ("user_id", "position", "timestamp", "split"):
        assert shuffled[name].to_list() == plain[name].to_list()
    same = ["user_id", "item_id", "timestamp"]
    assert sorted(shuffled.select(same).rows()) == sorted(plain.select(same).rows())


def test_ties_are_shuffled_by_chance_alone():
    triples = [("a", str(item), 0) for item in range(200)]
    orders = [leave_one_out(table(triples), np.random.default_rng(seed))["item_id"].to_list() for seed in (1, 2)]
    assert orders[0] != orders[1] and orders[0] != [item for _, item, _ in triples]


def test_position_orders_where_there_is_no_timestamp():
    frame = table([("a", item, place) for item, place in (("x", 9), ("y", 2), ("z", 5))]).rename(
        {"timestamp": "position"}
    )
    split = leave_one_out(frame)
    assert split["item_id"].to_list() == ["y", "z", "x"]
    assert split["position"].to_list() == [0, 1, 2]
    assert split["timestamp"].null_count() == 3


def test_statistics_of_table_1():
    figures = statistics(table([("a", "x", 0), ("a", "y", 1), ("b", "x", 2)]))
    assert figures["density"] == 3 / 4  # Table 1 calls it sparsity: Beauty is 198,360 / (22,363 x 12,101) = .00073
    assert statistics(table([]))["users"] == 0
