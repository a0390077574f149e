"""Semantic reconstruction: from an item's words to its identifier and back (section 4.1)."""

from collections.abc import Callable
from random import Random

from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.tasks.base import Exchange, Source, Task, shortened


def _over_items(name: str, field: str, share: float, exchange: Callable[[Item, str], Exchange]) -> Task:
    """A task over the items that have ``field``; ``exchange`` gets the item and that field, shortened."""

    def write(source: Source, unit: int, chance: Random) -> Exchange:
        item = source.items_with(field)[unit]
        return exchange(item, shortened(getattr(item, field), source.text_words))

    return Task(name, "semantic", share, lambda source: len(source.items_with(field)), write)


def _categories(source: Source, unit: int, chance: Random) -> Exchange:
    item = source.items_with("traits")[unit]
    return {"item": item.identifier}, ", ".join(item.traits)


SEMANTIC = (
    _over_items("title_to_item", "title", 1.0, lambda item, title: ({"title": title}, item.identifier)),
    _over_items("text_to_item", "text", 1.0, lambda item, text: ({"text": text}, item.identifier)),
    _over_items("description_to_item", "description", 1.0, lambda item, told: ({"description": told}, item.identifier)),
    _over_items("item_to_title", "title", 1.0, lambda item, title: ({"item": item.identifier}, title)),
    _over_items("item_to_text", "text", 1.0, lambda item, text: ({"item": item.identifier}, text)),
    Task("item_to_categories", "semantic", 1.0, lambda source: len(source.items_with("traits")), _categories),
)
