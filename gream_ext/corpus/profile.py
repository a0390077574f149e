"""What a history says of its user: frequent traits, recent ones, a trend, noise, and what the next item continues."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gream_ext.corpus.catalogue import Item

RECENT = 5
"""Items at the end of a history that count as recent."""
NO_TRAIT = "various"
"""Stands where no item says anything of itself."""


class Profile(NamedTuple):
    """Traits, the strongest first. ``trend`` is the trait that recent items carry more than earlier ones."""

    often: tuple[str, ...]
    lately: tuple[str, ...]
    trend: str | None


def profile(history: Sequence[Item], frequent: int = 4, recent: int = 3) -> Profile:
    """The profile of a history (oldest first): at most ``frequent`` traits of all of it, ``recent`` of its end."""
    return Profile(leading_traits(history, frequent), leading_traits(history[-RECENT:], recent), trend(history))


def leading_traits(items: Sequence[Item], limit: int) -> tuple[str, ...]:
    """The traits that most items carry; ties go to the trait seen last.

    Of traits that exactly the same items carry (a category and the one above it) only one is
    listed: the one that items name first, which is the rarer.
    """
    carriers: dict[str, list[int]] = {}
    for position, item in enumerate(items):
        for trait in item.traits:
            carriers.setdefault(trait, []).append(position)
    ranked = sorted(carriers, key=lambda trait: (-len(carriers[trait]), -carriers[trait][-1]))
    distinct: dict[tuple[int, ...], str] = {}
    for trait in ranked:
        distinct.setdefault(tuple(carriers[trait]), trait)
    return tuple(distinct.values())[:limit]


def trend(history: Sequence[Item]) -> str | None:
    """The trait that gained most between the earlier and the recent items, or None.

    It must be on at least two recent items and gain a fifth of the items or more.
    """
    earlier, recent = history[:-RECENT], history[-RECENT:]
    if not earlier:
        return None

    def share(trait: str, items: Sequence[Item]) -> float:
        return sum(trait in item.traits for item in items) / len(items)

    traits = dict.fromkeys(trait for item in recent for trait in item.traits)
    often = [trait for trait in traits if sum(trait in item.traits for item in recent) >= 2]
    gains = {trait: share(trait, recent) - share(trait, earlier) for trait in often}
    best = max(gains, key=lambda trait: gains[trait], default=None)
    return best if best is not None and gains[best] >= 0.2 else None


def wish(history: Sequence[Item], target: Item, limit: int = 3) -> tuple[str, ...]:
    """The target's traits that the history supports, in the target's order: what an intent may say of it."""
    supported = {trait for item in history for trait in item.traits}
    return tuple(trait for trait in target.traits if trait in supported)[:limit]


def likely_wishes(history: Sequence[Item], target: Item, count: int = 1) -> list[tuple[str, ...]]:
    """At most ``count`` wishes that the history makes likely, the likeliest first, `wish` of the target among them.

    The others are what single items of the history stand for, the likelier the more items carry all of it, of equal
    ones the last. None where the target's own wish is empty. The order does not say which is the true one.
    """
    true = wish(history, target)
    if not true:
        return []
    others = dict.fromkeys(wish(history, item) for item in reversed(history) if item.traits)
    carried = {one: sum(set(one) <= set(item.traits) for item in history) for one in (*others, true)}
    chosen = sorted((one for one in others if one != true), key=lambda one: -carried[one])[: count - 1]
    return sorted([*chosen, true], key=lambda one: (-carried[one], one))


def listed(traits: Sequence[str]) -> str:
    """Traits as they stand in a sentence.

    >>> listed(("tea", "cups")), listed(())
    ('tea, cups', 'various')
    """
    return ", ".join(traits) or NO_TRAIT


def kept_positions(vectors: np.ndarray, most: int) -> list[int]:
    """Positions of a history that are not noise, in order, at most the last ``most`` of them.

    ``vectors`` is float [items, width], oldest first. An item is noise when its cosine distance to
    the history's middle (half all items, half the recent ones) is more than a standard deviation
    above the mean distance. The last item is never noise.
    """
    unit = normalised(vectors)
    middle = normalised((unit.mean(axis=0) + unit[-RECENT:].mean(axis=0))[None])[0]
    distance = 1 - unit @ middle
    limit = distance.mean() + distance.std() + 1e-6
    kept = [position for position in range(len(unit)) if distance[position] <= limit or position == len(unit) - 1]
    return kept[-most:]


def nearest_position(vectors: np.ndarray, target: np.ndarray) -> int:
    """The position whose vector [items, width] has the highest cosine with ``target`` [width]; ties go to the last."""
    likeness = normalised(vectors) @ normalised(target[None])[0]
    return len(likeness) - 1 - int(np.argmax(np.round(likeness[::-1], 6)))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float64 [rows, width]; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
