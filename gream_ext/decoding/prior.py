"""A prior over items that guides the beam: what a node is worth is known at every level, not at its items alone.

A node of the trie covers a range of items, so the prior's mass below it is a difference of two cumulative sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie

LEAST = 1e-300
"""In place of a mass of zero, whose logarithm is no number; nothing that may be recommended lies below such a node."""


@dataclass(frozen=True, eq=False)
class Prior:
    """For each request a mass of every item: float64 [requests, items] by rows of the item index, all above zero.

    An item's score is the model's log-probability plus ``weight`` times the logarithm of its share of the mass.
    """

    masses: np.ndarray
    weight: float

    def take(self, requests: Sequence[int]) -> "Prior":
        """That of some of the requests."""
        return Prior(self.masses[list(requests)], self.weight)

    def on(self, trie: ItemTrie, parts: Sequence[SubCatalogue | None]) -> "NodePrior":
        """The same for the nodes of a trie, on its device. What a request may not be given has no mass for it.

        That changes how the beam is guided and no item's score. Takes 8 bytes an item and request.
        """
        left = self.masses / self.masses.sum(axis=1, keepdims=True)
        for row, part in zip(left, parts, strict=True):
            if part is not None:
                row[part.rows if part.excludes else np.delete(np.arange(len(row)), part.rows)] = 0.0
        # Differences of sums need float64, which an Apple GPU lacks: there the sums stay on the host.
        device = torch.device("cpu") if trie.device.type == "mps" else trie.device
        by_rank = torch.from_numpy(left).to(device)[:, trie.rows.to(device).long()]
        return NodePrior(trie, torch.nn.functional.pad(by_rank.cumsum(1), (1, 0)), self.weight)


@dataclass(frozen=True, eq=False)
class NodePrior:
    """``before`` float64 [requests, items + 1]: the mass of all items of lower rank."""

    trie: ItemTrie
    before: Tensor
    weight: float

    def of(self, requests: Tensor, nodes: Tensor) -> Tensor:
        """The weighted logarithm of the mass below ``nodes`` (not `NOWHERE`) for ``requests``: float32, broadcast."""
        requests, begin, end = (
            ranks.to(self.before.device).long() for ranks in (requests, self.trie.begin[nodes], self.trie.end[nodes])
        )
        mass = self.before[requests, end] - self.before[requests, begin]
        return (self.weight * mass.clamp(min=LEAST).log()).float().to(nodes.device)
