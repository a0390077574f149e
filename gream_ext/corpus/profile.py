"""What a history says of its user: frequent traits, recent ones, a trend, and what the next item continues."""

from collections.abc import Sequence
from dataclasses import dataclass

from gream_ext.corpus.catalogue import Item

RECENT = 5
"""Items at the end of a history that count as recent."""
NO_TRAIT = "various"
"""Stands where no item says anything of itself."""


@dataclass(frozen=True)
class Profile:
    """Traits, the strongest first. ``trend`` is the trait that recent items carry more than earlier ones."""

    often: tuple[str, ...]
    lately: tuple[str, ...]
    trend: str | None


def profile(history: Sequence[Item], frequent: int = 4, recent: int = 3) -> Profile:
    """The profile of a history (oldest first): at most ``frequent`` traits of all of it, ``recent`` of its end."""
    return Profile(
        often=leading_traits(history, frequent),
        lately=leading_traits(history[-RECENT:], recent),
        trend=trend(history),
    )


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
    gains = {
        trait: _share(trait, recent) - _share(trait, earlier)
        for item in recent
        for trait in item.traits
        if sum(trait in other.traits for other in recent) >= 2
    }
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


def _share(trait: str, items: Sequence[Item]) -> float:
    return sum(trait in item.traits for item in items) / len(items)
