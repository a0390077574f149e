"""What an alignment task is: a population of units and a rule that turns one into a prompt and a response."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Literal

from gream_ext.corpus.catalogue import Catalogue, Item
from gream_ext.corpus.draw import Numbered
from gream_ext.corpus.prompts import SEPARATOR, WINDOW
from gream_ext.corpus.told import Told
from gream_ext.words import beginning

Family = Literal["sequential", "semantic", "preference"]
Exchange = tuple[Mapping[str, str], str]
"""The slots of a prompt template and the response."""


@dataclass(frozen=True)
class Source:
    """What every task draws from: training histories, the catalogue and how histories are cut."""

    histories: Mapping[str, Sequence[str]]
    catalogue: Catalogue
    window: int = WINDOW
    crop_share: float = 0.0
    """Share of the histories that are cut to a random length, ``least`` items or more, instead of the whole window."""
    early_share: float = 0.0
    """Share of the continuations that are cut after the first item, not anywhere: more targets in a row."""
    text_words: int = 64
    least: int = 1
    """Items that must stand before a target."""
    told: Told = field(default_factory=Told)
    """What an LLM told of users and items; the template teacher tells the rest."""

    @cached_property
    def _targets(self) -> Numbered:
        return Numbered({user: max(0, len(history) - self.least) for user, history in self.histories.items()})

    @cached_property
    def _windows(self) -> Numbered:
        return Numbered({user: self._windows_of(user) for user in self.long_users})

    def _windows_of(self, user: str) -> int:
        """About one window for every ``window`` items of the user."""
        return max(1, round(len(self.histories[user]) / self.window))

    @property
    def target_count(self) -> int:
        """How many training items have ``least`` items before them."""
        return len(self._targets)

    @property
    def window_count(self) -> int:
        """How many windows cover the histories about once."""
        return len(self._windows)

    @cached_property
    def long_users(self) -> tuple[str, ...]:
        """Users with more than one training item."""
        return tuple(user for user, history in self.histories.items() if len(history) > 1)

    def target(self, unit: int, chance: Random) -> tuple[tuple[Item, ...], Item]:
        """One training target and the history that it is predicted from."""
        user, place = self.place_of(unit)
        return self.before(user, place, chance), self.catalogue[self.histories[user][place]]

    def place_of(self, unit: int) -> tuple[str, int]:
        """User and place in the user's history of a training target."""
        user, number = self._targets[unit]
        return user, number + self.least

    def stretch(self, unit: int, chance: Random) -> tuple[Item, ...]:
        """Up to ``window + 1`` items in a row: near one of the user's even places, moved at random."""
        user, place = self._windows[unit]
        history = self.histories[user]
        length = min(len(history), self.window + 1)
        middle = (place + chance.random()) * len(history) / self._windows_of(user)
        start = min(max(0, round(middle - length / 2)), len(history) - length)
        return self.catalogue.get(history[start : start + length])

    def items_with(self, field: str) -> tuple[Item, ...]:
        """The items that have this field of `Item`."""
        return self._having[field]

    @cached_property
    def _having(self) -> Mapping[str, tuple[Item, ...]]:
        items = self.catalogue.items
        return {
            field: tuple(item for item in items if getattr(item, field))
            for field in ("title", "description", "text", "traits")
        }

    def before(self, user: str, place: int, chance: Random) -> tuple[Item, ...]:
        """The history that a target at ``place`` is predicted from: the window before it, sometimes cropped."""
        shown = min(self.window, place)
        if self.crop_share and chance.random() < self.crop_share:
            shown = chance.randint(min(self.least, shown), shown)
        return self.catalogue.get(self.histories[user][place - shown : place])


@dataclass(frozen=True)
class Task:
    """One alignment task. ``write(source, unit, chance)`` turns unit ``0 <= unit < population(source)`` into a row."""

    name: str
    family: Family
    share: float
    """Rows an epoch by default, as a multiple of the population."""
    population: Callable[[Source], int]
    write: Callable[[Source, int, Random], Exchange]


def joined(history: Sequence[Item]) -> str:
    """Identifiers as they stand in prompts and in responses that list several."""
    return SEPARATOR.join(item.identifier for item in history)


def shortened(text: str, words: int) -> str:
    """The first ``words`` words, line breaks kept.

    >>> shortened("one two\\nthree four", 3)
    'one two\\nthree'
    """
    lines = (" ".join(line.split()) for line in beginning(text, words).splitlines())
    return "\n".join(line for line in lines if line)
