"""The trie holds the identifiers and nothing else, and counts sub-catalogues right."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ItemTrie
from gream_ext.errors import GreamError

HAND = np.array([[9, 4, 7], [2, 4, 8], [9, 4, 6], [2, 5, -1]])
"""Two levels and a conflict slot that the last item does without."""

prefix_free = st.lists(
    st.tuples(st.integers(3, 6), st.integers(7, 10), st.integers(11, 13), st.integers(-1, 3)), min_size=1, max_size=40
).map(lambda rows: _prefix_free(rows))


def _prefix_free(rows):
    short = {row[:3] for row in rows if row[3] == -1}
    kept = {row for row in rows if row[3] == -1 or row[:3] not in short}
    return np.array(sorted(kept, key=lambda row: hash(row)))


def paths(trie):
    """Every identifier as token ids, in the trie's order, found by walking down from the root."""
    found = []

    def go(node, so_far):
        if trie.complete[node]:
            found.append(so_far)
        for child in range(trie.children[node], trie.children[node + 1]):
            go(child, (*so_far, int(trie.tokens[child])))

    go(0, ())
    return found


def test_by_hand():
    trie = ItemTrie.build(HAND)
    assert paths(trie) == [(2, 4, 8), (2, 5), (9, 4, 6), (9, 4, 7)]
    assert trie.rows.tolist() == [1, 3, 2, 0]
    assert trie.tokens.tolist() == [-1, 2, 9, 4, 5, 4, 8, 6, 7]
    assert trie.children.tolist() == [1, 3, 5, 6, 7, 7, 9, 9, 9, 9]
    assert trie.complete.tolist() == [False, False, False, False, True, False, True, True, True]
    assert [tokens.tolist() for tokens in trie.level_tokens] == [[2, 9], [4, 5], [6, 7, 8]]
    assert trie.step(np.array([0, 1, 1, 4, NOWHERE]), np.array([9, 5, 9, 4, 2])).tolist() == [
        2,
        4,
        NOWHERE,
        NOWHERE,
        -1,
    ]
    owner, below = trie.below(np.array([2, 0]))
    assert owner.tolist() == [0, 1, 1] and below.tolist() == [5, 1, 2]
    assert trie.settled(np.array([[0, 1, 2, 3], [4, 5, NOWHERE, 8]])).tolist() == [[0, 1, 2, 6], [4, 5, NOWHERE, 8]]


@given(prefix_free)
def test_it_holds_the_identifiers_and_nothing_else(ids):
    trie = ItemTrie.build(ids)
    expected = {tuple(token for token in row if token >= 0): place for place, row in enumerate(ids.tolist())}
    assert set(paths(trie)) == set(expected)
    nodes = trie.walk(ids)
    assert trie.row_of(nodes).tolist() == list(range(len(ids)))
    for node in range(len(trie.tokens)):
        _, below = trie.below(np.array([node]))
        assert trie.tokens[below].tolist() == sorted(set(trie.tokens[below].tolist()))
        assert (trie.step(np.full(len(below), node), trie.tokens[below]) == below).all()
    for node, settled in enumerate(trie.settled(np.arange(len(trie.tokens))).tolist()):
        items = trie.rows[trie.begin[node] : trie.end[node]]
        if len(items) == 1:
            assert trie.complete[settled] and trie.row_of(np.array([settled])) == items
        else:
            assert settled == node
    every = np.arange(-2, 20)
    known = set(trie.tokens[trie.below(np.array([0]))[1]].tolist())
    assert {token for token, node in zip(every, trie.step(np.zeros(22, int), every), strict=True) if node >= 0} == known


@given(prefix_free, st.booleans())
def test_rows_are_sorted_as_lexsort_sorts_them(ids, far_apart):
    # Tokens too far apart for a row to be one number are sorted level by level.
    ids = np.where(ids < 0, ids, ids * 2**40) if far_apart else ids
    assert ItemTrie.build(ids).rows.tolist() == np.lexsort(ids.T[::-1]).tolist()


@given(prefix_free, st.data())
def test_counting_a_sub_catalogue(ids, data):
    trie = ItemTrie.build(ids)
    rows = st.sets(st.integers(0, len(ids) - 1))
    parts = [None, SubCatalogue.only(sorted(data.draw(rows))), SubCatalogue.without(sorted(data.draw(rows)))]
    kept = [set(range(len(ids))), set(parts[1].rows.tolist()), set(range(len(ids))) - set(parts[2].rows.tolist())]
    restrictions = Restrictions(trie, parts)
    assert restrictions.sizes().tolist() == [len(some) for some in kept]
    for request, some in enumerate(kept):
        nodes = np.arange(len(trie.tokens))
        left = restrictions.left(np.full(len(nodes), request), trie.begin[nodes], trie.end[nodes])
        slow = [len(some & set(trie.rows[trie.begin[node] : trie.end[node]].tolist())) for node in nodes]
        assert left.tolist() == slow
    for first in range(3):
        for second in range(3):
            if parts[first] is not None:
                both = parts[first].within(parts[second], len(ids))
                assert Restrictions(trie, [both]).sizes().tolist() == [len(kept[first] & kept[second])]


@pytest.mark.parametrize("ids", [[[1, 2], [1, 2]], [[1, 2], [1, -1]], [[1, -1], [1, 2]], [[3, 4], [1, 2], [3, 4]]])
def test_identifiers_that_are_not_prefix_free_are_refused(ids):
    with pytest.raises(GreamError, match="conflict slot"):
        ItemTrie.build(np.array(ids))


def test_nothing_to_build_is_refused():
    for ids in (np.zeros((0, 3)), np.zeros((3, 0)), [[-1, -1]]):
        with pytest.raises(GreamError, match="no item"):
            ItemTrie.build(np.array(ids))


def test_a_sub_catalogue_of_unknown_rows_is_refused():
    with pytest.raises(GreamError, match="request 1: a sub-catalogue names a row outside the 4 items"):
        Restrictions(ItemTrie.build(HAND), [None, SubCatalogue.only([4])])


def test_an_unfinished_identifier_names_no_item():
    trie = ItemTrie.build(HAND)
    with pytest.raises(GreamError, match="names no item"):
        trie.row_of(np.array([1]))


def test_saved_and_read_again(tmp_path):
    trie = ItemTrie.build(HAND)
    trie.save(tmp_path / "trie.safetensors")
    again = ItemTrie.load(tmp_path / "trie.safetensors")
    assert paths(again) == paths(trie) and again.rows.tolist() == trie.rows.tolist() and again.levels == 3
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    for name in ("broken", "missing"):
        with pytest.raises(GreamError, match=name):
            ItemTrie.load(tmp_path / f"{name}.safetensors")
