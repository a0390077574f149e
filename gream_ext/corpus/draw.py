"""Seeded draws: which units of a population become rows, and in which order the tasks stand."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np


def shuffled(population: int, count: int, key: str) -> Iterator[int]:
    """``count`` of the numbers below ``population`` in random order.

    Every number comes once before any comes again, so a count above the population repeats all of them evenly. Same
    key, same numbers, whatever the count: a longer draw goes on where a shorter one ends.

    >>> sorted(shuffled(5, 5, "seed 0"))
    [0, 1, 2, 3, 4]
    """
    for lap in range(0, count, population) if population else ():
        yield from map(int, generator(f"{key}/{lap}").permutation(population)[: count - lap])


def interleaved(counts: Mapping[str, int], key: str) -> Iterator[str]:
    """Each name as often as its count, in random order."""
    names = list(counts)
    order = np.repeat(np.arange(len(names), dtype=np.uint8), list(counts.values()))
    generator(key).shuffle(order)
    return (names[number] for number in order)


def generator(key: str) -> np.random.RandomState:
    """Random numbers that a key stands for. numpy promises of `RandomState` alone that no version changes them."""
    return np.random.RandomState(np.frombuffer(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest(), "<u4"))


class Numbered(Sequence[tuple[str, int]]):
    """The pairs (name, 0 … count-1) of all names in order, numbered without a list of them.

    >>> list(Numbered({"u": 2, "v": 0, "w": 1}))
    [('u', 0), ('u', 1), ('w', 0)]
    """

    def __init__(self, counts: Mapping[str, int]):
        self._names = tuple(counts)
        self._ends = list(accumulate(counts.values()))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        row = bisect_right(self._ends, number)
        return self._names[row], number - (self._ends[row - 1] if row else 0)
