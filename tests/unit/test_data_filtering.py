"""k-core and leave-one-out against slow, obvious references."""

from collections import Counter

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.data.filtering import k_core
from gream_ext.data.ids import codes, compact
from gream_ext.data.splitting import leave_one_out, short_user
from gream_ext.data.statistics import statistics

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
    counts = Counter(user for user, _, _ in triples)
    triples = [row for row in triples if counts[row[0]] >= 3]
    frame = compact(table(triples)) if as_categories else table(triples)
    expected = []
    for user in dict.fromkeys(user for user, _, _ in triples):
        history = sorted((row for row in triples if row[0] == user), key=lambda row: row[2])  # stable: ties by row
        splits = ["train"] * (len(history) - 2) + ["valid", "test"]
        expected += [
            (user, item, position, time, split)
            for position, ((_, item, time), split) in enumerate(zip(history, splits, strict=True))
        ]
    assert leave_one_out(frame).cast({pl.Categorical: pl.String, pl.Enum: pl.String}).rows() == expected


def test_position_orders_where_there_is_no_timestamp():
    frame = table([("a", item, place) for item, place in (("x", 9), ("y", 2), ("z", 5))]).rename(
        {"timestamp": "position"}
    )
    split = leave_one_out(frame)
    assert split["item_id"].to_list() == ["y", "z", "x"]
    assert split["position"].to_list() == [0, 1, 2]
    assert split["timestamp"].null_count() == 3


def test_short_user_names_the_first():
    frame = table([("a", "x", 0), ("a", "y", 1), ("a", "z", 2), ("b", "x", 3), ("b", "y", 4), ("c", "x", 5)])
    assert short_user(frame) == (3, "b", 2)
    assert short_user(frame.head(3)) is None


def test_statistics_of_table_1():
    figures = statistics(table([("a", "x", 0), ("a", "y", 1), ("b", "x", 2)]))
    assert figures["sparsity"] == 3 / 4  # Table 1 calls the density so: Beauty is 198,360 / (22,363 x 12,101) = .00073
    assert statistics(table([]))["users"] == 0
