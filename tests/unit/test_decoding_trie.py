"""The trie holds the identifiers and nothing else, and counts sub-catalogues right."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

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
    stepped = trie.step(torch.tensor([0, 1, 1, 4, NOWHERE]), torch.tensor([9, 5, 9, 4, 2]))
    assert stepped.tolist() == [2, 4, NOWHERE, NOWHERE, NOWHERE]
    assert trie.fanout == (2, 2, 2)
    below, real = trie.children_of(torch.tensor([2, 0, 4, NOWHERE]), 2)
    assert below[real].tolist() == [5, 1, 2] and real.sum(1).tolist() == [1, 2, 0, 0]
    settled = trie.settled(torch.tensor([[0, 1, 2, 3], [4, 5, NOWHERE, 8]]))
    assert settled.tolist() == [[0, 1, 2, 6], [4, 5, NOWHERE, 8]]


@given(prefix_free)
def test_it_holds_the_identifiers_and_nothing_else(ids):
    trie = ItemTrie.build(ids)
    expected = {tuple(token for token in row if token >= 0): place for place, row in enumerate(ids.tolist())}
    assert set(paths(trie)) == set(expected)
    nodes = trie.walk(torch.tensor(ids))
    assert trie.row_of(nodes).tolist() == list(range(len(ids)))
    for node in range(len(trie.tokens)):
        below, real = trie.children_of(torch.tensor([node]), max(trie.fanout))
        tokens = trie.tokens[below[real]].tolist()
        assert tokens == sorted(set(tokens))
        assert trie.step(torch.full((len(tokens),), node), torch.tensor(tokens)).tolist() == below[real].tolist()
    for node, settled in enumerate(trie.settled(torch.arange(len(trie.tokens))).tolist()):
        items = trie.rows[trie.begin[node] : trie.end[node]]
        if len(items) == 1:
            assert trie.complete[settled] and trie.row_of(torch.tensor([settled])) == items
        else:
            assert settled == node
    every = torch.arange(-2, 20)
    known = set(trie.level_tokens[0].tolist())
    assert set(every[trie.step(torch.zeros(22, dtype=int), every) >= 0].tolist()) == known


@given(prefix_free, st.booleans())
def test_rows_are_sorted_as_lexsort_sorts_them(ids, far_apart):
    # Tokens too far apart for a row to be one number are sorted level by level.
    ids = np.where(ids < 0, ids, ids * 2**26) if far_apart else ids
    assert ItemTrie.build(ids).rows.tolist() == np.lexsort(ids.T[::-1]).tolist()


@pytest.mark.parametrize("bits", [(21, 21, 21), (22, 21, 20), (21, 21, 22), (22, 22, 21), (30, 30, 4)])
def test_identifiers_as_wide_as_a_number_are_sorted_right(bits):
    """Of 63 bits, one more than that, and between: the highest code of each level among them."""
    rng = np.random.default_rng(0)
    ids = np.stack([rng.integers(0, 2**width, 50) for width in bits], axis=1)
    ids = np.concatenate([ids, [[2**width - 1 for width in bits], [0] * len(bits)]])
    trie = ItemTrie.build(ids)
    assert trie.rows.tolist() == np.lexsort(ids.T[::-1]).tolist()
    assert paths(trie) == sorted(map(tuple, ids.tolist()))


@given(prefix_free, st.data())
def test_counting_a_sub_catalogue(ids, data):
    trie = ItemTrie.build(ids)
    rows = st.sets(st.integers(0, len(ids) - 1))
    parts = [None, SubCatalogue.only(sorted(data.draw(rows))), SubCatalogue.without(sorted(data.draw(rows)))]
    kept = [set(range(len(ids))), set(parts[1].rows.tolist()), set(range(len(ids))) - set(parts[2].rows.tolist())]
    restrictions = Restrictions.of(trie, parts)
    assert restrictions.sizes.tolist() == [len(some) for some in kept]
    for some_restrictions in (restrictions, restrictions.padded(7, 200)):
        for request, some in enumerate(kept):
            left = some_restrictions.left(torch.full_like(trie.begin, request), trie.begin, trie.end)
            ranges = zip(trie.begin.tolist(), trie.end.tolist(), strict=True)
            assert left.tolist() == [len(some & set(trie.rows[begin:end].tolist())) for begin, end in ranges]
    for first in range(3):
        for second in range(3):
            if parts[first] is not None:
                both = parts[first].within(parts[second], len(ids))
                assert Restrictions.of(trie, [both]).sizes.tolist() == [len(kept[first] & kept[second])]


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
        Restrictions.of(ItemTrie.build(HAND), [None, SubCatalogue.only([4])])


def test_an_unfinished_identifier_names_no_item():
    trie = ItemTrie.build(HAND)
    with pytest.raises(GreamError, match="names no item"):
        trie.row_of(torch.tensor([1]))


def test_a_catalogue_of_one_item_keeps_dead_beams_dead():
    trie = ItemTrie.build(np.array([[7, 8]]))
    assert trie.settled(torch.tensor([0, 1, NOWHERE])).tolist() == [2, 2, NOWHERE]


def test_saved_and_read_again(tmp_path):
    trie = ItemTrie.build(HAND)
    trie.save(tmp_path / "trie.safetensors")
    again = ItemTrie.load(tmp_path / "trie.safetensors")
    assert paths(again) == paths(trie) and again.rows.tolist() == trie.rows.tolist() and again.levels == 3
    arrays = {name: getattr(trie, name).long() for name in ("tokens", "children", "begin", "end", "rows")}
    save_file(arrays, tmp_path / "first.safetensors", {"kind": "item_trie", "version": "1", "levels": "3"})
    assert paths(ItemTrie.load(tmp_path / "first.safetensors")) == paths(trie)
    (tmp_path / "broken.safetensors").write_bytes(b"nonsense")
    for name in ("broken", "missing"):
        with pytest.raises(GreamError, match=name):
            ItemTrie.load(tmp_path / f"{name}.safetensors")
