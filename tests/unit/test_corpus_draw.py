"""Draws without a list of the population."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.corpus.draw import Numbered, interleaved, shuffled


@given(st.integers(1, 300), st.text(max_size=8))
def test_a_whole_lap_is_a_permutation(population: int, key: str) -> None:
    assert sorted(shuffled(population, population, key)) == list(range(population))


@given(st.integers(1, 60), st.integers(0, 200), st.text(max_size=8))
def test_every_number_comes_evenly(population: int, count: int, key: str) -> None:
    drawn = Counter(shuffled(population, count, key))
    assert drawn.total() == count
    assert set(drawn.values()) <= {count // population, count // population + 1}


def test_same_key_same_numbers() -> None:
    # Written down once: a corpus made on another machine must be the same.
    assert list(shuffled(10, 10, "seed 0")) == [5, 6, 9, 2, 3, 8, 7, 4, 1, 0]
    assert list(shuffled(10, 10, "seed 1")) != list(shuffled(10, 10, "seed 0"))


@given(st.integers(1, 40), st.integers(0, 100), st.integers(0, 100), st.text(max_size=8))
def test_a_longer_draw_goes_on_where_a_shorter_one_ends(population: int, count: int, more: int, key: str) -> None:
    """More questions to a teacher pay for none of the old ones again."""
    longer = list(shuffled(population, count + more, key))
    assert longer[:count] == list(shuffled(population, count, key))


def test_each_lap_has_an_order_of_its_own() -> None:
    drawn = list(shuffled(50, 150, "laps"))
    assert drawn[:50] != drawn[50:100] != drawn[100:]


def test_an_empty_population_gives_nothing() -> None:
    assert list(shuffled(0, 5, "")) == []


def test_a_large_population_is_spread_evenly() -> None:
    drawn = list(shuffled(1_000_000, 4000, "spread"))
    quarters = Counter(number // 250_000 for number in drawn)
    assert all(900 < quarters[quarter] < 1100 for quarter in range(4))


@given(st.dictionaries(st.sampled_from("abcde"), st.integers(0, 40)), st.text(max_size=8))
def test_interleaved_gives_each_name_its_count(counts: dict[str, int], key: str) -> None:
    names = list(interleaved(counts, key))
    assert Counter(names) == Counter({name: count for name, count in counts.items() if count})
    assert names == list(interleaved(counts, key))


@given(st.lists(st.integers(0, 5), max_size=20))
def test_numbered_is_the_list_of_pairs(counts: list[int]) -> None:
    named = {f"u{row}": count for row, count in enumerate(counts)}
    slow = [(name, number) for name, count in named.items() for number in range(count)]
    assert list(Numbered(named)) == slow
    with pytest.raises(IndexError):
        Numbered(named)[len(slow)]
