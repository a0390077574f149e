"""Identifiers as text: what is written is read back, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.identifiers import find_all, parse, token, tokens, vocabulary

codes = st.lists(st.integers(0, 300), min_size=1, max_size=6)


@given(codes)
def test_parse_reads_what_was_written(row):
    assert parse("".join(tokens(row))) == tokens(row)


@given(st.lists(codes, max_size=5), st.sampled_from([", ", "", " and <|b_1|>", "\n"]))
def test_find_all_finds_each_in_order(rows, between):
    text = between.join(["".join(tokens(row)) for row in rows])
    if between == " and <|b_1|>":
        text = text.replace(between, " then ")
    assert find_all(text) == [tokens(row) for row in rows]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<|a_1|> ",
        "<|a_1|><|c_2|>",
        "<|b_1|>",
        "<|a_01|>",
        "<|a_-1|>",
        "<|A_1|>",
        "<|a_1|><|a_2|>",
        "<|a_1|>\n",
        "<|a_١|>",
    ],
)
def test_nothing_else_is_an_identifier(text):
    assert parse(text) is None


def test_as_many_levels_as_there_are_letters():
    written = "".join(tokens(range(26)))
    assert parse(written) == tokens(range(26))
    assert parse(written + "<|a_1|>") is None
    assert parse(written + "<|{_26|>") is None


def test_stray_tokens_are_passed_over():
    assert find_all("<|b_1|><|a_2|> <|b_3|><|a_4|><|b_5|><|d_6|>") == [("<|a_2|>",), ("<|a_4|>", "<|b_5|>")]


def test_vocabulary_counts_level_by_level():
    assert vocabulary([2, 3]) == [token(0, 0), token(0, 1), token(1, 0), token(1, 1), token(1, 2)]
