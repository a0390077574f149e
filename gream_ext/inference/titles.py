"""The catalogue for people: titles and categories of items, and finding items by their titles."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from gream_ext.workspace import ITEMS, read_table


@dataclass(frozen=True, eq=False)
class Titles:
    """Titles and categories, in the order of items.parquet."""

    titles: Mapping[str, str]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, path: Path) -> "Titles":
        """From a file of kind ``items``; an item without a title is called by its id."""
        rows = read_table(path, ITEMS, "prepare").select("item_id", "title", "categories").rows()
        return cls(
            {item: title or item for item, title, _ in rows},
            {item: tuple(categories or ()) for item, _, categories in rows},
        )

    def __len__(self) -> int:
        return len(self.titles)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self.titles

    def title(self, item_id: str) -> str:
        return self.titles.get(item_id, item_id)

    @cached_property
    def _folded(self) -> tuple[list[str], list[str]]:
        return list(self.titles), [folded(title) for title in self.titles.values()]

    def search(self, query: str, limit: int = 10) -> list[str]:
        """Item ids whose titles hold every word of ``query``, the nearest first; accents and case do not count.

        A title that is the query stands before one that begins with it, then one with a word that begins so;
        within each the shorter title comes first.
        """
        wanted = folded(query)
        words = wanted.split()
        if not words:
            return []
        found: list[tuple[tuple[bool, bool, bool], int, int, str]] = []
        ids, titles = self._folded
        for item, title in zip(ids, titles, strict=True):
            if all(word in title for word in words):
                whole = f" {title}"
                rank = (title != wanted, not title.startswith(wanted), not all(f" {word}" in whole for word in words))
                found.append((rank, len(title), len(found), item))
        return [item for *_, item in sorted(found)[:limit]]

    def in_categories(self, wanted: Iterable[str]) -> list[str]:
        """Ids of the items that stand in one of the categories, which are compared without accents and case."""
        within = {item for name in wanted for item in self._in_category.get(folded(name), ())}
        return [item for item in self.titles if item in within]

    @cached_property
    def _in_category(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for item, own in self.categories.items():
            for name in dict.fromkeys(map(folded, own)):
                found.setdefault(name, []).append(item)
        return found

    @cached_property
    def category_names(self) -> list[str]:
        """Every category, the most frequent first."""
        names = pl.Series([name for own in self.categories.values() for name in own], dtype=pl.String)
        counts = names.value_counts().sort(["count", names.name], descending=[True, False])
        return list(counts[names.name])

    def subset(self, item_ids: Sequence[str]) -> "Titles":
        """Of these items only, in their order."""
        return Titles(
            {item: self.title(item) for item in item_ids}, {item: self.categories.get(item, ()) for item in item_ids}
        )


def folded(text: str) -> str:
    """Small letters without accents and punctuation, for comparing.

    >>> folded("Amélie: Le Fabuleux Destin (2001)")
    'amelie le fabuleux destin 2001'
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    kept = (letter if letter.isalnum() else " " for letter in plain if not unicodedata.combining(letter))
    return " ".join("".join(kept).split())
