"""The catalogue as a trie of token ids on one device: which tokens may follow, so that only real items come out.

All tensors are flat. Nodes are numbered level by level, the root 0, so that the first level is dense: its nodes are
1, 2, … in the order of their tokens. Deeper levels are CSR: the children of a node stand side by side in the order of
their tokens, those of consecutive nodes too. Items stand in the order of their identifiers, so that every node covers a
range of them: whether something of a sub-catalogue is left below a node is a matter of counting within a range.

One trie serves direct mode, the logits processors and SGLang's plug-in, on a CPU and on a GPU. What `children_of` and
`settled` compute has shapes that depend on the catalogue and on how many nodes are asked for, never on which.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gream_ext.decoding.trie_arrays import trie_arrays
from gream_ext.errors import GreamError
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.workspace import whole

KIND, VERSION = "item_trie", "2"
READABLE = ("1", VERSION)
"""Version 1 has the same arrays in int64."""
ROOT, NOWHERE = 0, -1


@dataclass(frozen=True, eq=False)
class ItemTrie:
    """Real identifiers and nothing else. All tensors int32 on one device.

    ``tokens`` [nodes] leads to each node (-1 to the root); ``children`` [nodes + 1]: those of node ``n`` are
    ``children[n]``…``children[n + 1]``, none for a complete identifier; ``begin``, ``end`` [nodes]: the ranks of the
    items below a node; ``rows`` [items]: the row of the item index at each rank.
    """

    tokens: Tensor
    children: Tensor
    begin: Tensor
    end: Tensor
    rows: Tensor
    levels: int
    """Tokens of the longest identifier."""

    @classmethod
    def from_index(cls, index: ItemIndex, tokenizer: PreTrainedTokenizerBase) -> "ItemTrie":
        """The trie of an item index in the token ids of this tokenizer, on the CPU."""
        return cls.build(index.token_ids(tokenizer))

    @classmethod
    def build(cls, token_ids: np.ndarray) -> "ItemTrie":
        """From token ids int [items, levels], padded at the end with `NO_CODE`; on the CPU.

        `GreamError` when there is no item, two are equal, or one is the prefix of another. Takes about
        the time that numpy's lexsort of the rows takes.
        """
        arrays = trie_arrays(token_ids)
        flat = {name: torch.from_numpy(array.astype(np.int32)) for name, array in zip(_TENSORS, arrays, strict=True)}
        return cls(**flat, levels=token_ids.shape[1])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def device(self) -> torch.device:
        return self.rows.device

    def to(self, device: torch.device | str) -> "ItemTrie":
        """The same trie on another device, copied there once; itself where it is there already."""
        there = torch.device(device)
        if self.device == there:
            return self
        if there not in self._copies:
            tensors = {name: getattr(self, name).to(there) for name in _TENSORS}
            self._copies[there] = ItemTrie(**tensors, levels=self.levels)
        return self._copies[there]

    @cached_property
    def _copies(self) -> dict[torch.device, "ItemTrie"]:
        return {}

    @cached_property
    def complete(self) -> Tensor:
        """bool [nodes]: the node is a whole identifier."""
        return self.children[1:] == self.children[:-1]

    @cached_property
    def leaf(self) -> Tensor:
        """int32 [items]: the complete node of the item at each rank."""
        leaves = self.complete.nonzero()[:, 0]
        found = torch.empty_like(self.rows)
        found[self.begin[leaves]] = leaves.to(torch.int32)
        return found

    @cached_property
    def rank_of_row(self) -> Tensor:
        """int32 [items]: where each row of the item index stands in the order of identifiers."""
        ranks = torch.empty_like(self.rows)
        ranks[self.rows] = torch.arange(len(self), dtype=torch.int32, device=self.device)
        return ranks

    @cached_property
    def level_bounds(self) -> tuple[tuple[int, int], ...]:
        """First node of each level and of the one after it."""
        bounds, begin, end = [], 0, 1
        for _ in range(self.levels):
            begin, end = int(self.children[begin]), int(self.children[end])
            bounds.append((begin, end))
        return tuple(bounds)

    @cached_property
    def level_tokens(self) -> tuple[Tensor, ...]:
        """The distinct tokens of each level, int64, ascending."""
        return tuple(self.tokens[begin:end].unique().long() for begin, end in self.level_bounds)

    @cached_property
    def token_rank(self) -> Tensor:
        """int32 [nodes]: where a node's token stands in `level_tokens` of its level."""
        ranks = torch.full_like(self.tokens, NOWHERE)
        for (begin, end), tokens in zip(self.level_bounds, self.level_tokens, strict=True):
            ranks[begin:end] = torch.searchsorted(tokens, self.tokens[begin:end].long(), out_int32=True)
        return ranks

    @cached_property
    def fanout(self) -> tuple[int, ...]:
        """The most children that a node has, by its level; the root's is the first."""
        counts = self.children.diff()
        above = ((0, 1), *self.level_bounds[:-1])
        return tuple(int(counts[begin:end].max()) if end > begin else 0 for begin, end in above)

    def children_of(self, nodes: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """The children of ``nodes`` (any shape, `NOWHERE` among them), in their order, and which of them are real.

        int64 and bool [..., most]; ``most`` is `fanout` of the nodes' level, or the largest. Where there is no child
        stands some node.
        """
        at = nodes.clamp(min=0)
        first = self.children[at][..., None]
        below = first + torch.arange(most, device=nodes.device)
        real = (below < self.children[at + 1][..., None]) & (nodes != NOWHERE)[..., None]
        return below.clamp(max=len(self.tokens) - 1), real

    def settled(self, nodes: Tensor) -> Tensor:
        """``nodes`` of any shape, with that item's complete node for each that leads to a single item.

        The same shape and type; `NOWHERE` stays.
        """
        at = nodes.clamp(min=0)
        first = self.begin[at]
        certain = (nodes != NOWHERE) & (self.end[at] - first == 1)
        return torch.where(certain, self.leaf[first].to(nodes.dtype), nodes)

    def is_complete(self, nodes: Tensor) -> Tensor:
        """bool, of the shape of ``nodes``; False for `NOWHERE`."""
        return (nodes != NOWHERE) & self.complete[nodes.clamp(min=0)]

    @cached_property
    def _edges(self) -> Tensor:
        """Parent and token of every node but the root as one number, int64, ascending."""
        parents = torch.repeat_interleave(self.children.diff().long())
        return parents * self._span + self.tokens[1:]

    @cached_property
    def _span(self) -> int:
        return int(self.tokens.max()) + 1

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The child of each node by each token, int64, broadcast; `NOWHERE` where there is none."""
        real = (nodes >= 0) & (tokens >= 0) & (tokens < self._span)
        wanted = torch.where(real, nodes * self._span + tokens, 0)
        found = torch.searchsorted(self._edges, wanted).clamp(max=len(self._edges) - 1)
        return torch.where(real & (self._edges[found] == wanted), found + 1, NOWHERE)

    def walk(self, tokens: Tensor) -> Tensor:
        """The node that each row of tokens (int64 [rows, any]) leads to, int64 [rows].

        What stands after a complete identifier, such as `NO_CODE`, is passed over.
        """
        nodes = torch.full((len(tokens),), ROOT, dtype=torch.int64, device=tokens.device)
        for column in tokens.T:
            nodes = torch.where(self.is_complete(nodes), nodes, self.step(nodes, column))
        return nodes

    def row_of(self, nodes: Tensor) -> Tensor:
        """The row of the item index that each of ``nodes`` names, int64, the same shape.

        `GreamError` when one is not a complete identifier.
        """
        if not bool(self.is_complete(nodes).all()):
            raise GreamError("item trie: an identifier that is not complete names no item")
        return self.rows[self.begin[nodes]].long()

    def identifiers(self, rows: Tensor) -> Tensor:
        """The token ids of items by their rows of the item index: int64 [rows, levels], padded with `NO_CODE`."""
        ranks = self.rank_of_row[rows][:, None]
        nodes, columns = torch.full_like(rows, ROOT), []
        for fanout in self.fanout:
            below, real = self.children_of(nodes, max(1, fanout))
            on_the_way = real & (self.begin[below] <= ranks) & (ranks < self.end[below])
            goes_on = on_the_way.any(1)
            child = below.gather(1, on_the_way.int().argmax(1, keepdim=True))[:, 0]
            nodes = torch.where(goes_on, child, nodes)
            columns.append(torch.where(goes_on, self.tokens[nodes], NO_CODE).long())
        return torch.stack(columns, dim=1)

    def save(self, path: Path) -> None:
        """Write one safetensors file, whole."""
        tensors = {name: getattr(self, name).cpu() for name in _TENSORS}
        with whole(path) as draft:
            save_file(tensors, draft, metadata={"kind": KIND, "version": VERSION, "levels": str(self.levels)})

    @classmethod
    def load(cls, path: Path) -> "ItemTrie":
        """Read what `save` wrote, onto the CPU."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("kind") != KIND or metadata.get("version") not in READABLE:
                    raise GreamError(f"{path} is not an item trie of version {VERSION}: export it again")
                tensors = {name: file.get_tensor(name).to(torch.int32) for name in file.keys()}  # noqa: SIM118
            return cls(**tensors, levels=int(metadata["levels"]))
        except FileNotFoundError:
            raise GreamError(f"{path} is missing: export it again") from None
        except (SafetensorError, TypeError, ValueError) as error:
            raise GreamError(f"{path} is damaged ({error}): export it again") from None


_TENSORS = tuple(field.name for field in fields(ItemTrie) if field.name != "levels")
