"""Recommendations limited to a part of the catalogue, for each request its own part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError


@dataclass(frozen=True, eq=False)
class SubCatalogue:
    """Some items by their rows in the item index: only these, or all but these."""

    rows: np.ndarray
    """int64 [named], ascending, none twice."""
    excludes: bool

    @classmethod
    def only(cls, rows: "np.ndarray | Sequence[int]") -> "SubCatalogue":
        """What a category holds, or what is in stock: ``rows``, integers [named] in any order, int64 from then on."""
        return cls(np.unique(np.asarray(rows, dtype=np.int64)), False)

    @classmethod
    def without(cls, rows: "np.ndarray | Sequence[int]") -> "SubCatalogue":
        """What the user has already seen left out: ``rows``, integers [named] in any order, int64 from then on."""
        return cls(np.unique(np.asarray(rows, dtype=np.int64)), True)

    def within(self, other: "SubCatalogue | None", items: int) -> "SubCatalogue":
        """What both hold, of a catalogue of ``items``."""
        if other is None:
            return self
        if self.excludes and other.excludes:
            return SubCatalogue(np.union1d(self.rows, other.rows), True)
        kept = np.ones(items, dtype=bool)
        for part in (self, other):
            kept &= np.isin(np.arange(items), part.rows, invert=part.excludes)
        return SubCatalogue(np.flatnonzero(kept), False)


class Restrictions:
    """How much of its sub-catalogue each request still has below a node; nothing is rebuilt for it.

    Memory and time grow with the rows that are named, not with the catalogue.
    """

    def __init__(self, trie: ItemTrie, parts: Sequence[SubCatalogue | None]):
        self._items = len(trie)
        self._named = any(part is not None for part in parts)
        self._only = np.array([part is not None and not part.excludes for part in parts], dtype=bool)
        keys = []
        for request, part in enumerate(parts):
            if part is None:
                continue
            if len(part.rows) and not (part.rows[0] >= 0 and part.rows[-1] < self._items):
                raise GreamError(f"request {request}: a sub-catalogue names a row outside the {self._items} items")
            keys.append(request * self._items + np.sort(trie.place_of_row[part.rows]))
        self._keys = np.concatenate([np.zeros(0, dtype=np.int64), *keys])

    def left(self, requests: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
        """Allowed items in the places ``begin``…``end`` for each request, int64 [rows]."""
        if not self._named:
            return end - begin
        offset = requests * self._items
        named = np.searchsorted(self._keys, offset + end) - np.searchsorted(self._keys, offset + begin)
        return np.where(self._only[requests], named, end - begin - named)

    def sizes(self) -> np.ndarray:
        """Items that each request may be given, int64 [requests]."""
        requests = np.arange(len(self._only))
        return self.left(requests, np.zeros_like(requests), np.full_like(requests, self._items))
