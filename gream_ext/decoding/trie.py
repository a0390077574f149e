"""The catalogue as a trie of token ids: which tokens may follow, so that only real items come out.

All arrays are flat. Nodes are numbered level by level, the root 0; the children of a node stand
side by side in the order of their tokens, and those of consecutive nodes too. Items stand in the
order of their identifiers, so that every node covers a range of them: whether something of a
sub-catalogue is left below a node is a matter of counting within a range.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.index import NO_CODE
from gream_ext.workspace import whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from gream_ext.items.index import ItemIndex

KIND, VERSION = "item_trie", "1"
ROOT, NOWHERE = 0, -1


@dataclass(frozen=True, eq=False)
class ItemTrie:
    """Real identifiers and nothing else.

    ``tokens`` int64 [nodes] leads to each node (-1 to the root); ``children`` int64 [nodes + 1]: those
    of node ``n`` are ``children[n]``…``children[n + 1]``, none for a complete identifier;
    ``begin``, ``end`` int64 [nodes]: the places of the items below a node; ``rows`` int64 [items]:
    the row of the item index at each place.
    """

    tokens: np.ndarray
    children: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    rows: np.ndarray
    levels: int
    """Tokens of the longest identifier."""

    @classmethod
    def from_index(cls, index: "ItemIndex", tokenizer: "PreTrainedTokenizerBase") -> "ItemTrie":
        """The trie of an item index in the token ids of this tokenizer."""
        return cls.build(index.token_ids(tokenizer))

    @classmethod
    def build(cls, token_ids: np.ndarray) -> "ItemTrie":
        """From token ids [items, levels], padded at the end with `NO_CODE`.

        `GreamError` when there is no item, two are equal, or one is the prefix of another. Takes about
        the time that numpy's lexsort of the rows takes.
        """
        ids = np.asarray(token_ids, dtype=np.int64)
        items, levels = ids.shape
        if items == 0 or levels == 0 or (ids[:, 0] == NO_CODE).any():
            raise GreamError("item trie: there is no item, or one has no token: build the item index again")
        rows, columns = _sorted(ids)
        # Places at which the identifier differs from the one before in one of its first levels.
        fresh = np.ones(items, dtype=bool)
        fresh[1:] = False
        tokens, begins, ends = [np.array([NOWHERE])], [np.array([0])], [np.array([items])]
        for column in columns:
            fresh[1:] |= column[1:] != column[:-1]
            first = np.flatnonzero(fresh)
            last = np.append(first[1:], items)
            goes_on = column[first] != NO_CODE
            tokens.append(column[first[goes_on]])
            begins.append(first[goes_on])
            ends.append(last[goes_on])
        offsets = np.cumsum([0, *(len(part) for part in tokens)])
        # Every node ends where its own children, the nodes below it, end in the next level.
        children = [offsets[level + 1] + np.searchsorted(begins[level + 1], begins[level]) for level in range(levels)]
        after = np.full(len(tokens[levels]) + 1, offsets[-1])
        trie = cls(
            tokens=np.concatenate(tokens),
            children=np.concatenate([*children, after]),
            begin=np.concatenate(begins),
            end=np.concatenate(ends),
            rows=rows,
            levels=levels,
        )
        trie._check(columns)
        return trie

    def _check(self, columns: np.ndarray) -> None:
        crowded = np.flatnonzero(self.complete & (self.end - self.begin > 1))
        short = columns[-1] == NO_CODE
        if short.any() and not len(crowded):
            # An identifier that stops where others go on.
            node = self.walk(columns.T)
            crowded = node[~self.complete[node]]
        if len(crowded):
            place = int(self.begin[crowded[0]])
            raise GreamError(
                f"item trie: the identifiers of rows {self.rows[place]} and {self.rows[place + 1]} of the item index "
                "are equal or one is the prefix of the other: build it with a conflict slot"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def complete(self) -> np.ndarray:
        """bool [nodes]: the node is a whole identifier."""
        return self.children[1:] == self.children[:-1]

    @cached_property
    def leaf(self) -> np.ndarray:
        """int64 [items]: the complete node of the item at each place."""
        leaves = np.flatnonzero(self.complete)
        found = np.empty_like(self.rows)
        found[self.begin[leaves]] = leaves
        return found

    @cached_property
    def place_of_row(self) -> np.ndarray:
        """int64 [items]: where each row of the item index stands in the order of identifiers."""
        places = np.empty_like(self.rows)
        places[self.rows] = np.arange(len(self.rows))
        return places

    @cached_property
    def level_tokens(self) -> tuple[np.ndarray, ...]:
        """The distinct tokens of each level, ascending."""
        return tuple(np.unique(self.tokens[begin:end]) for begin, end in self._level_bounds)

    @cached_property
    def token_place(self) -> np.ndarray:
        """int64 [nodes]: where a node's token stands in `level_tokens` of its level."""
        parts = [np.array([NOWHERE])]
        for (begin, end), tokens in zip(self._level_bounds, self.level_tokens, strict=True):
            parts.append(np.searchsorted(tokens, self.tokens[begin:end]))
        return np.concatenate(parts)

    @cached_property
    def _level_bounds(self) -> tuple[tuple[int, int], ...]:
        bounds, begin, end = [], 0, 1
        for _ in range(self.levels):
            begin, end = int(self.children[begin]), int(self.children[end])
            bounds.append((begin, end))
        return tuple(bounds)

    @cached_property
    def _edges(self) -> np.ndarray:
        """Parent and token of every node but the root as one number, ascending."""
        parents = np.repeat(np.arange(len(self.tokens)), np.diff(self.children))
        return parents * self._span + self.tokens[1:]

    @cached_property
    def _span(self) -> int:
        return int(self.tokens.max()) + 1

    def step(self, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The child of each node by each token, int64 [rows]; `NOWHERE` where there is none."""
        real = (nodes >= 0) & (tokens >= 0) & (tokens < self._span)
        wanted = np.where(real, nodes * self._span + tokens, 0)
        found = np.minimum(np.searchsorted(self._edges, wanted), len(self._edges) - 1)
        return np.where(real & (self._edges[found] == wanted), found + 1, NOWHERE)

    def walk(self, tokens: np.ndarray) -> np.ndarray:
        """The node that each row of tokens, int64 [rows, levels] padded with `NO_CODE`, leads to."""
        nodes = np.full(len(tokens), ROOT, dtype=np.int64)
        for column in tokens.T:
            nodes = np.where(column == NO_CODE, nodes, self.step(nodes, column))
        return nodes

    def below(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All children of ``nodes``, int64 [rows] without `NOWHERE`, in their order.

        Returns which of ``nodes`` each child belongs to, as its place there, and the child; both int64 [children].
        """
        counts = self.children[nodes + 1] - self.children[nodes]
        owner = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return owner, self.children[nodes][owner] + within

    def settled(self, nodes: np.ndarray) -> np.ndarray:
        """``nodes``, int64 of any shape, with that item's complete node for each that leads to a single item.

        int64 of the same shape; `NOWHERE` stays.
        """
        certain = (nodes != NOWHERE) & (self.end[nodes] - self.begin[nodes] == 1)
        return np.where(certain, self.leaf[np.where(certain, self.begin[nodes], 0)], nodes)

    def row_of(self, nodes: np.ndarray) -> np.ndarray:
        """The row of the item index that each of ``nodes`` names, int64 [rows] as they are.

        `GreamError` when one is not a complete identifier.
        """
        if not self.complete[nodes].all():
            raise GreamError("item trie: an identifier that is not complete names no item")
        return self.rows[self.begin[nodes]]

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole."""
        from safetensors.numpy import save_file

        arrays = {name: getattr(self, name) for name in ("tokens", "children", "begin", "end", "rows")}
        with whole(path) as draft:
            save_file(arrays, draft, metadata={"kind": KIND, "version": VERSION, "levels": str(self.levels)})

    @classmethod
    def load(cls, path: Path) -> "ItemTrie":
        """Read what `save` wrote."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                about = file.metadata() or {}
                if (about.get("kind"), about.get("version")) != (KIND, VERSION):
                    raise GreamError(f"{path} is not an item trie of version {VERSION}: export it again")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls(**arrays, levels=int(about["levels"]))
        except FileNotFoundError:
            raise GreamError(f"{path} is missing: export it again") from None
        except (SafetensorError, TypeError, ValueError) as error:
            raise GreamError(f"{path} is damaged ({error}): export it again") from None


def _sorted(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``ids`` int64 [items, levels] in the order of `numpy.lexsort`: the rows, int64 [items], and [levels, items].

    Rows that fit one number are sorted as such, which is several times faster.
    """
    least = ids.min(axis=0)
    widths = [int(spread).bit_length() for spread in ids.max(axis=0) - least]
    if sum(widths) > 63:
        rows = np.lexsort(ids.T[::-1])
        return rows, np.ascontiguousarray(ids[rows].T)
    shifts = np.cumsum([0, *widths[:0:-1]])[::-1]
    numbers = ((ids - least) << shifts).sum(axis=1)
    rows = np.argsort(numbers, kind="stable")
    columns = np.empty(ids.shape[::-1], dtype=np.int64)
    numbers = numbers[rows]
    for column, low, width, shift in zip(columns, least, widths, shifts, strict=True):
        column[:] = ((numbers >> shift) & ((1 << width) - 1)) + low
    return rows, columns
