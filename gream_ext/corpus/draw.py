"""Seeded draws from a population too large to hold in memory twice: shuffled without a list of it."""

import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

_MASK = 0xFFFFFFFFFFFFFFFF
_ROUNDS = 4


def shuffled(population: int, count: int, key: str) -> Iterator[int]:
    """``count`` of the numbers below ``population`` in random order, in constant memory.

    Every number comes once before any comes again, so a count above the population repeats all
    of them evenly. Same key, same numbers, on every platform.

    >>> sorted(shuffled(5, 5, "seed 0"))
    [0, 1, 2, 3, 4]
    """
    for lap in range(0, count, population) if population else ():
        yield from _permutation(population, min(population, count - lap), f"{key}/{lap}")


def interleaved(counts: Mapping[str, int], key: str) -> Iterator[str]:
    """Each name as often as its count, in random order: a shuffle of the tasks, in constant memory."""
    left = {name: count for name, count in counts.items() if count}
    chance = random.Random(key)
    for total in range(sum(left.values()), 0, -1):
        place = chance.randrange(total)
        for name in left:
            place -= left[name]
            if place < 0:
                break
        left[name] -= 1
        yield name


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


def _permutation(population: int, count: int, key: str) -> Iterator[int]:
    """The first ``count`` values of a keyed permutation: a Feistel network, walked until it is in range."""
    half = max(1, ((population - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    chance = random.Random(key)
    keys = [chance.getrandbits(64) for _ in range(_ROUNDS)]
    for number in range(count):
        value = number
        while True:
            left, right = value >> half, value & low
            for salt in keys:
                left, right = right, left ^ (_mixed(right ^ salt) & low)
            value = left << half | right
            if value < population:
                break
        yield value


def _mixed(value: int) -> int:
    """SplitMix64's finaliser."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK
    return value ^ value >> 31
