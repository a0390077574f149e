"""ItemIndex: round trips, and what it refuses."""

import json
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.errors import GreamError
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.workspace import ITEM_INDEX, write_table

SIZES = (3, 2, 3)


def index(rows, sizes=SIZES):
    codes = np.array(rows, dtype=np.int32).reshape(len(rows), len(sizes))
    return ItemIndex(tuple(f"item {row}" for row in range(len(rows))), codes, sizes)


def any_codes(slot_may_be_left_out=True):
    least = NO_CODE if slot_may_be_left_out else 0
    return st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(least, 2)), max_size=8)


def slow_is_good(rows):
    written = [tuple(code for code in row if code != NO_CODE) for row in rows]
    return not any(a[: len(b)] == b or b[: len(a)] == a for a, b in combinations(written, 2))


@given(any_codes())
def test_refuses_what_the_obvious_check_refuses(rows):
    if slow_is_good(rows):
        assert len(index(rows)) == len(rows)
    else:
        with pytest.raises(GreamError, match="equal or one is the prefix"):
            index(rows)


@given(any_codes())
def test_round_trip(rows):
    if not slow_is_good(rows):
        return
    made = index(rows)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "item_index.parquet"
        made.save(path, {"seed": 3})
        loaded = ItemIndex.load(path)
    assert loaded.item_ids == made.item_ids
    assert loaded.sizes == made.sizes
    assert loaded.codes.dtype == np.int32
    assert (loaded.codes == made.codes).all()
    for item in made.item_ids:
        assert loaded.item(loaded.identifier(item)) == item
        assert loaded.text(item) == "".join(loaded.identifier(item))


@given(st.permutations(range(4)))
def test_permutation_changes_row_order_only(order):
    rows = [(0, 0, 0), (0, 0, 1), (1, 1, NO_CODE), (2, 0, 2)]
    made = index(rows)
    moved = ItemIndex(tuple(made.item_ids[row] for row in order), made.codes[list(order)], SIZES)
    assert {item: moved.identifier(item) for item in moved.item_ids} == {
        item: made.identifier(item) for item in made.item_ids
    }


def test_prefix_is_named_by_both_items():
    with pytest.raises(GreamError, match="'item 0' and 'item 2' are equal or one is the prefix"):
        index([(0, 0, NO_CODE), (1, 0, 0), (0, 0, 2)])
    with pytest.raises(GreamError, match="'item 1' and 'item 2' are equal or one is the prefix"):
        index([(1, 0, 0), (0, 0, 2), (0, 0, NO_CODE)])


@pytest.mark.parametrize(
    ("rows", "sizes", "message"),
    [
        ([(0, 2, 0)], SIZES, "has code 2 at level 1, outside 0…1"),
        ([(0, -2, 0)], SIZES, "has code -2 at level 1"),
        ([(0, NO_CODE, 0)], SIZES, "only the last level may be left out"),
        ([(NO_CODE,)], (3,), "only the last level may be left out"),
        ([()], (), "0 levels"),
    ],
)
def test_refuses_codes(rows, sizes, message):
    with pytest.raises(GreamError, match=message):
        index(rows, sizes)


def test_refuses_items():
    codes = np.zeros((2, 1), dtype=np.int32)
    with pytest.raises(GreamError, match="an item_id stands in it twice"):
        ItemIndex(("a", "a"), codes, (1,))
    with pytest.raises(GreamError, match=r"3 items and 1 levels, but codes of shape \(2, 1\)"):
        ItemIndex(("a", "b", "c"), codes, (1,))
    with pytest.raises(GreamError, match="item 'z' is not in the item index"):
        index([(0, 0, 0)]).identifier("z")
    assert index([(0, 0, 0)]).item(("<|a_1|>",)) is None


def damaged(path, rows, sizes=SIZES, **metadata):
    frame = pl.DataFrame(rows, schema={"item_id": pl.String, "codes": pl.List(pl.Int32)}, orient="row")
    write_table(frame, path, ITEM_INDEX, {"sizes": sizes, **metadata})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", [0, 0, 0]), ("b", [0, 0, 0])], "items 'a' and 'b' are equal"),
        ([("a", [0])], "item 'a' has 1 codes, not 3"),
        ([("a", [0, 0, 0, 0])], "item 'a' has 4 codes, not 3"),
        ([("a", None)], "item 'a' has 0 codes, not 3"),
        ([("a", [0, 0, None])], "a code in it is empty or below 0"),
        ([("a", [0, 0, -1])], "a code in it is empty or below 0"),
        ([(None, [0, 0, 0])], "an item_id in it is empty"),
        ([("a", [0, 9, 0])], "outside 0…1"),
    ],
)
def test_refuses_damaged_rows(tmp_path, rows, message):
    path = tmp_path / "item_index.parquet"
    damaged(path, rows)
    with pytest.raises(GreamError, match=message) as caught:
        ItemIndex.load(path)
    assert str(path) in str(caught.value)


def test_refuses_damaged_files(tmp_path):
    path = tmp_path / "item_index.parquet"
    with pytest.raises(GreamError, match="is missing: run `gream index build` first"):
        ItemIndex.load(path)
    index([(0, 0, 0), (0, 0, 1)]).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GreamError, match="is not a readable Parquet file"):
        ItemIndex.load(path)
    path.write_bytes(whole[:20] + bytes(60) + whole[80:])
    with pytest.raises(GreamError, match="item_index"):
        ItemIndex.load(path)
    damaged(path, [("a", [0, 0, 0])], version=99)
    with pytest.raises(GreamError, match="has version 99"):
        ItemIndex.load(path)
    damaged(path, [("a", [0, 0, 0])], sizes="many")
    with pytest.raises(GreamError, match="is damaged"):
        ItemIndex.load(path)
    pl.DataFrame({"item_id": ["a"]}).write_parquet(path, metadata={"gream": json.dumps({"kind": "items"})})
    with pytest.raises(GreamError, match="is not a file of kind 'item_index'"):
        ItemIndex.load(path)


class Tokenizer:
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def get_added_vocab(self):
        return self.vocabulary


def test_token_ids():
    made = index([(0, 1, 2), (2, 0, NO_CODE)])
    known = {token: 100 + place for place, token in enumerate(made.vocabulary)}
    assert made.token_ids(Tokenizer(known)).tolist() == [[100, 104, 107], [102, 103, NO_CODE]]
    del known["<|c_2|>"]
    with pytest.raises(GreamError, match=r"lacks 1 identifier tokens, the first <\|c_2\|>"):
        made.token_ids(Tokenizer(known))


@cache
def sealed():
    made = index([(0, 0, 0), (0, 0, 1), (1, 1, NO_CODE)])
    with TemporaryDirectory() as folder:
        made.save(Path(folder) / "index", {"seed": 3, "conflict_slot": "colliding"})
        return made, (Path(folder) / "index").read_bytes()


@given(st.integers(0, 10**6), st.integers(1, 255), st.sampled_from(["flip", "cut", "insert", "zeros", "append"]))
def test_any_damage_is_refused_and_named(place, change, how):
    made, whole = sealed()
    at = place % len(whole)
    damaged_bytes = {
        "flip": whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :],
        "cut": whole[:at],
        "insert": whole[:at] + bytes([change]) + whole[at:],
        "zeros": whole[:at] + bytes(len(whole[at : at + 40])) + whole[at + 40 :],
        "append": whole + bytes([change]),
    }[how]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "item_index.parquet"
        path.write_bytes(damaged_bytes)
        try:
            loaded = ItemIndex.load(path)
        except GreamError as error:
            assert str(path) in str(error)
        else:
            # Only the name of the seal may change unnoticed (or nothing did); the index is then the same.
            assert loaded.item_ids == made.item_ids and (loaded.codes == made.codes).all()
            assert loaded.sizes == made.sizes
            assert damaged_bytes == whole or abs(at - whole.index(b"seal")) < 60
