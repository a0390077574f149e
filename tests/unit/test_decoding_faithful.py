"""The history that a response writes again is a sub-sequence of the real one, whatever the model would rather write."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.decoding.faithful import FaithfulHistory, HistoryProcessor, Rewriting, State
from gream_ext.decoding.ranking import Ranking
from gream_ext.decoding.trie import ItemTrie

THINK_END, ANSWER, COMMA, DOT, WORD = 1, 2, 3, 4, 5
IDS = np.array([[10, 20, 30], [10, 20, 31], [10, 21, -1], [11, 20, 30], [11, 22, 30]])
TRIE = ItemTrie.build(IDS)
REWRITING = Rewriting(THINK_END, ANSWER, (COMMA,), tuple(range(10, 40)))


def grammar(rows):
    return FaithfulHistory.of(REWRITING, TRIE, rows)


def follow(one, tokens):
    state = State()
    for token in tokens:
        limit = one.limit(state)
        assert limit is None or not limit.forbids(token)
        state = one.after(state, token)
    return one.limit(state)


def may_follow(one, tokens):
    limit = follow(one, tokens)
    every = set(range(45))
    return every if limit is None else (every - set(limit.among or every)) | set(limit.allowed)


def test_identifiers_by_their_rows():
    assert TRIE.identifiers(torch.tensor([4, 2, 0, 2])).tolist() == [IDS[row].tolist() for row in (4, 2, 0, 2)]
    assert grammar([2, 0]).history == ((10, 21), (10, 20, 30))


def test_step_by_step():
    one = grammar([3, 0, 2, 3])
    words = set(range(10)) | set(range(40, 45))
    assert may_follow(one, [WORD, 11, 22, 30]) == set(range(45))  # thinking is free
    assert may_follow(one, [THINK_END, WORD]) == words | {10, 11}
    assert may_follow(one, [THINK_END, 10]) == {20, 21}
    assert may_follow(one, [THINK_END, 10, 20]) == {30}  # 31 would be an item, but none of this history
    listed = [THINK_END, WORD, 11, 20, 30, COMMA, 10, 21]
    assert may_follow(one, listed) == words | {11}  # after the third only the fourth
    assert may_follow(one, [*listed, COMMA, 11, 20, 30, COMMA]) == words
    assert may_follow(one, [*listed, DOT]) == words | {10, 11}  # the list is over; what is named stays of the history
    assert may_follow(one, [*listed, DOT, ANSWER, 11, THINK_END]) == set(range(45))
    assert may_follow(grammar([]), [THINK_END, WORD]) == words


@given(st.lists(st.integers(0, 4), max_size=6), st.lists(st.integers(0, 4), max_size=6))
def test_a_list_can_be_written_just_where_it_is_a_sub_sequence(history, written):
    one = grammar(history)
    tokens = [THINK_END]
    for row in written:
        tokens += [int(token) for token in IDS[row] if token >= 0] + [COMMA]
    rest = iter(history)
    if all(row in rest for row in written):
        follow(one, tokens)
    else:
        with pytest.raises(AssertionError):
            follow(one, tokens)


def test_rows_of_a_call_each_keep_to_their_own_history():
    processor = HistoryProcessor([grammar([0]), None, grammar([4])])
    scores = torch.zeros(3, 45)
    written = torch.tensor([[7, 7], [7, 7], [7, 7]])
    assert processor.at_rows(np.arange(3))(written, scores) is scores
    for tokens, rows, expected in (
        ([THINK_END] * 3, [0, 1, 2], [{10}, None, {11}]),
        ([10, 10, 11], [0, 1, 2], [{20}, None, {22}]),
        ([22, 20], [2, 0], [{30}, {30}]),  # the second row has ended, and the others stand in another order
    ):
        written = torch.cat([written[: len(tokens)], torch.tensor(tokens)[:, None]], dim=1)
        found = processor.at_rows(np.array(rows))(written, scores[: len(rows)])
        for row, may in zip(found, expected, strict=True):
            items = set(range(10, 40)) if may is None else may
            assert {token for token in range(10, 40) if row[token] == 0} == items
    assert not scores.any()


def test_what_the_prompt_ends_with_is_not_of_the_response():
    scores = torch.zeros(1, 45)
    assert HistoryProcessor([grammar([0])])(torch.tensor([[7, THINK_END]]), scores) is scores


def test_rankings_are_merged_by_probability():
    one = Ranking(np.array([3, 1, 2]), np.log(np.array([0.5, 0.3, 0.1], dtype=np.float32)))
    other = Ranking(np.array([1, 4]), np.log(np.array([0.4, 0.4], dtype=np.float32)))
    merged = Ranking.merged([one, other], 3)
    assert merged.rows.tolist() == [1, 3, 4]
    np.testing.assert_allclose(np.exp(merged.scores), [0.35, 0.25, 0.2], rtol=1e-5)
    assert Ranking.merged([one], 10).rows.tolist() == [3, 1, 2]
    assert not len(Ranking.merged([], 5).rows)
