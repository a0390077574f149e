"""What every task draws from: training histories, the catalogue and how histories are cut."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from gream_ext.corpus.catalogue import Catalogue, Item
from gream_ext.corpus.draw import Numbered
from gream_ext.corpus.preferences import Preferences
from gream_ext.corpus.prompts import SEPARATOR, WINDOW
from gream_ext.words import beginning


@dataclass(frozen=True)
class Source:
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
    preferences: Preferences = field(default_factory=Preferences)
    """What an LLM wrote of users and items; the template teacher writes the rest."""

    @cached_property
    def targets(self) -> Numbered:
        """User and number of every training item that has ``least`` items before it."""
        return Numbered({user: max(0, len(history) - self.least) for user, history in self.histories.items()})

    @cached_property
    def windows(self) -> Numbered:
        """About one window for every ``window`` items of a user, so that they cover the histories about once."""
        return Numbered({user: self._windows_of(user) for user in self.long_users})

    def _windows_of(self, user: str) -> int:
        return max(1, round(len(self.histories[user]) / self.window))

    @cached_property
    def long_users(self) -> tuple[str, ...]:
        """Users with more than one training item."""
        return tuple(user for user, history in self.histories.items() if len(history) > 1)

    def target(self, unit: int, rng: Random) -> tuple[tuple[Item, ...], Item]:
        """One training target and the history that it is predicted from."""
        user, number = self.targets[unit]
        position = number + self.least
        return self.before(user, position, rng), self.catalogue[self.histories[user][position]]

    def stretch(self, unit: int, rng: Random) -> tuple[Item, ...]:
        """Up to ``window + 1`` items in a row: near one of the user's evenly spaced positions, moved at random."""
        user, number = self.windows[unit]
        history = self.histories[user]
        length = min(len(history), self.window + 1)
        middle = (number + rng.random()) * len(history) / self._windows_of(user)
        start = min(max(0, round(middle - length / 2)), len(history) - length)
        return self.catalogue.get(history[start : start + length])

    def before(self, user: str, position: int, rng: Random) -> tuple[Item, ...]:
        """The history that a target at ``position`` is predicted from: the window before it, sometimes cropped."""
        shown = min(self.window, position)
        if self.crop_share and rng.random() < self.crop_share:
            shown = rng.randint(min(self.least, shown), shown)
        return self.catalogue.get(self.histories[user][position - shown : position])


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
