"""What the corpus knows of each item: its identifier, its words, its traits."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.items.text import encoded_text, enriched_descriptions
from gream_ext.words import split_words
from gream_ext.workspace import ITEMS, Workspace, read_table

COMMON_SHARE = 0.6
"""A category that more of the catalogue than this carries says nothing about an item."""
YEAR_SHARE = 0.05
"""A year that at least this share of the catalogue carries is an era of its own; others count by decade."""
RESERVED = re.compile(r"<(?=\||/?(?:think|answer)>)")
YEAR_NAMES = ("year", "release_year")


@dataclass(frozen=True, slots=True)
class Item:
    """One item. ``identifier`` is its text in prompts; absent words are empty strings."""

    item_id: str
    row: int
    """Row in items.parquet, so also in the embeddings."""
    identifier: str
    title: str
    description: str
    text: str
    """Enriched text where there is one, else the composite text."""
    traits: tuple[str, ...]
    """Telling categories, the rarest first, then brand and era."""


class Catalogue:
    """All items, by id and in the order of items.parquet."""

    def __init__(self, items: Iterable[Item]):
        self.items: tuple[Item, ...] = tuple(items)
        self._by_id: Mapping[str, Item] = {item.item_id: item for item in self.items}
        self._having: dict[str, tuple[Item, ...]] = {}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item_id: str) -> Item:
        try:
            return self._by_id[item_id]
        except KeyError:
            raise GreamError(
                f"item {item_id!r} is in the interactions but not in items.parquet: run `gream prepare` again"
            ) from None

    def get(self, item_ids: Iterable[str]) -> tuple[Item, ...]:
        """Several items, in the order given."""
        return tuple(self[item_id] for item_id in item_ids)

    @cached_property
    def title_words(self) -> Mapping[str, int]:
        """In how many titles each word stands, lower case."""
        return Counter(word for item in self.items for word in set(split_words(item.title.lower())))

    def having(self, field: str) -> tuple[Item, ...]:
        """The items that have this field of `Item`."""
        if field not in self._having:
            self._having[field] = tuple(item for item in self.items if getattr(item, field))
        return self._having[field]

    @classmethod
    def load(cls, workspace: Workspace, texts: Mapping[str, str] | None = None) -> "Catalogue":
        """Read items and item index.

        ``texts``, by default the workspace's enriched descriptions, take the place of the composite text after the
        title.
        """
        texts = enriched_descriptions(workspace) if texts is None else texts
        index = ItemIndex.load(workspace.item_index)
        records = read_table(workspace.items, ITEMS, "prepare").to_dicts()
        traits = item_traits(*[[one[name] or "" for one in records] for name in ("categories", "brand", "attributes")])
        return cls(
            Item(
                item_id=one["item_id"],
                row=row,
                identifier=index.text(one["item_id"]),
                title=_line(one["title"]),
                description=_line(one["description"]),
                text=_plain(encoded_text(one, "full", texts.get(one["item_id"]))).strip(),
                traits=traits[row],
            )
            for row, one in enumerate(records)
        )


def item_traits(
    categories: Sequence[Sequence[str]], brands: Sequence[str], attributes: Sequence[Sequence[str]]
) -> list[tuple[str, ...]]:
    """The traits of each item: telling categories (rarest first), brand, era.

    A category of more than `COMMON_SHARE` of the items is left out unless the item has no other.

    >>> item_traits([["Drama", "Noir"], ["Drama"]], ["", "Velta"], [["year: 1994"], []])
    [('Noir', '1994'), ('Drama', 'Velta')]
    """
    spread = Counter(category for own in categories for category in set(own))
    years = [_year(own) for own in attributes]
    years_spread = Counter(year for year in years if year)
    traits = []
    for own, brand, year in zip(categories, brands, years, strict=True):
        ranked = sorted(dict.fromkeys(own), key=lambda category: (spread[category], category))
        telling = [category for category in ranked if spread[category] <= COMMON_SHARE * len(categories)]
        era = year if years_spread[year] >= YEAR_SHARE * len(years) else f"{year[:3]}0s" if year else ""
        traits.append(tuple(_line(trait) for trait in (*(telling or ranked[:1]), brand, era) if trait))
    return traits


def _year(attributes: Iterable[str]) -> str:
    for attribute in attributes:
        name, _, value = attribute.partition(":")
        if name.strip().lower() in YEAR_NAMES and len(value.strip()) == 4 and value.strip().isdecimal():
            return value.strip()
    return ""


def _line(text: str | None) -> str:
    """A title or description on one line: a prompt must not be broken up by it."""
    return " ".join(_plain(text or "").split())


def _plain(text: str) -> str:
    """``text`` with nothing in it that a tokenizer takes for a marker, an identifier or the end of a message."""
    return RESERVED.sub("< ", text)
