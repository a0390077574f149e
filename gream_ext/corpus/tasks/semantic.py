"""Semantic reconstruction: from an item's words to its identifier and back (section 4.1)."""

from random import Random

from gream_ext.corpus.tasks.base import Exchange, Source, Task, shortened


def _task(name: str, field: str, slot: str) -> Task:
    """A task over the items that have ``field``. With ``slot`` "item" the identifier is asked for its words, with
    another slot the words for their identifier.
    """

    def write(source: Source, unit: int, rng: Random) -> Exchange:
        item = source.catalogue.having(field)[unit]
        value = getattr(item, field)
        words = ", ".join(value) if field == "traits" else shortened(value, source.text_words)
        return ({slot: item.identifier}, words) if slot == "item" else ({slot: words}, item.identifier)

    return Task(name, "semantic", 1.0, lambda source: len(source.catalogue.having(field)), write)


SEMANTIC = (
    _task("title_to_item", "title", "title"),
    _task("text_to_item", "text", "text"),
    _task("description_to_item", "description", "description"),
    _task("item_to_title", "title", "item"),
    _task("item_to_text", "text", "item"),
    _task("item_to_categories", "traits", "item"),
)
