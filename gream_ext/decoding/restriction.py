"""Recommendations limited to a part of the catalogue, for each request its own part."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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


@dataclass(frozen=True, eq=False)
class Restrictions:
    """How much of its sub-catalogue each request still has below a node; nothing is rebuilt for it.

    Memory and time grow with the rows that are named, not with the catalogue. ``keys`` int64 [named], for each named
    row its request and rank as one number, ascending, and ``only`` bool [requests] stand on the trie's device; None
    where no request names anything.
    """

    items: int
    sizes: np.ndarray
    """int64 [requests], on the host: the items that each request may be given."""
    keys: Tensor | None = None
    only: Tensor | None = None

    @classmethod
    def of(cls, trie: ItemTrie, parts: Sequence[SubCatalogue | None]) -> "Restrictions":
        """`GreamError` for a part that names a row outside the catalogue."""
        items = len(trie)
        sizes = np.full(len(parts), items, dtype=np.int64)
        named = [(request, part) for request, part in enumerate(parts) if part is not None]
        if not named:
            return cls(items, sizes)
        for request, part in named:
            if len(part.rows) and not (part.rows[0] >= 0 and part.rows[-1] < items):
                raise GreamError(f"request {request}: a sub-catalogue names a row outside the {items} items")
            sizes[request] = items - len(part.rows) if part.excludes else len(part.rows)
        offsets = np.repeat([request * items for request, _ in named], [len(part.rows) for _, part in named])
        rows = torch.from_numpy(np.concatenate([part.rows for _, part in named])).to(trie.device)
        keys = torch.from_numpy(offsets).to(trie.device) + trie.rank_of_row[rows]
        only = torch.tensor([part is not None and not part.excludes for part in parts])
        return cls(items, sizes, keys.sort().values, only.to(trie.device))

    def left(self, requests: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """Allowed items at the ranks ``begin``…``end`` for each request: integers, broadcast."""
        if self.keys is None or self.only is None:
            return end - begin
        offset = requests * self.items
        named = torch.searchsorted(self.keys, offset + end) - torch.searchsorted(self.keys, offset + begin)
        return torch.where(self.only[requests], named, end - begin - named)

    def padded(self, requests: int, keys: int) -> "Restrictions":
        """The same with tensors for so many requests and keys; those that are added name nothing."""
        if self.keys is None or self.only is None:
            return self
        more = self.keys.new_full((keys - len(self.keys),), torch.iinfo(torch.int64).max)
        only = self.only.new_zeros(requests - len(self.only))
        return Restrictions(self.items, self.sizes, torch.cat([self.keys, more]), torch.cat([self.only, only]))
