"""The beams of one request in the trie, on the device of the logits. Equals `gream_ext.decoding.beam` step by step.

All shapes depend on the beam width and the catalogue alone, and nothing is read back to the host, so that SGLang's
overlap of scheduling and computing is kept.
"""

import torch
from torch import Tensor

from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie
from gream_ext.inference.engines.sglang_request import IMPOSSIBLE

_NOTHING = float("-inf")


class DeviceTrie:
    """The arrays of an `ItemTrie` as tensors of one device."""

    def __init__(self, trie: ItemTrie, device: torch.device | str):
        self.device = torch.device(device)
        self.levels = trie.levels
        self.begin, self.end = self.tensor(trie.begin), self.tensor(trie.end)
        self.complete = self.tensor(trie.complete)
        # A level that no identifier has still needs a token for complete beams to go along with.
        self.level_tokens = [self.tensor(tokens if len(tokens) else [0]) for tokens in trie.level_tokens]
        self.place_of_row = self.tensor(trie.place_of_row)
        tokens, children = self.tensor(trie.tokens), self.tensor(trie.children)
        self._span = int(trie.tokens.max()) + 1
        parents = torch.repeat_interleave(torch.arange(len(tokens), device=self.device), children.diff())
        self._edges = parents * self._span + tokens[1:]

    def tensor(self, array: object) -> Tensor:
        return torch.as_tensor(array, device=self.device)

    def step(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The child of each node by each token, int64, broadcast; `NOWHERE` where there is none."""
        real = (nodes >= 0) & (tokens >= 0) & (tokens < self._span)
        wanted = torch.where(real, nodes * self._span + tokens, 0)
        found = torch.searchsorted(self._edges, wanted).clamp(max=len(self._edges) - 1)
        return torch.where(real & (self._edges[found] == wanted), found + 1, NOWHERE)


class Frontier:
    """Where the beams of one request stand: ``nodes`` int64 [beams], at first one at the root."""

    def __init__(self, trie: DeviceTrie, part: SubCatalogue | None, normalisation: Normalisation):
        self.trie, self.part, self.normalisation = trie, part, normalisation
        self.nodes = torch.full((1,), ROOT, dtype=torch.int64, device=trie.device)
        self.level = 0
        self._places = None if part is None else trie.place_of_row[trie.tensor(part.rows)].sort().values

    def candidates(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` likeliest tokens after each beam, float32 and int64 [beams, count].

        ``logits`` [beams, vocabulary]. `IMPOSSIBLE` where a token leads to no item of the request. A beam whose item
        is complete already has one candidate of log-probability 0, whatever token it is.
        """
        tokens = self.trie.level_tokens[self.level]
        children = self.trie.step(self.nodes[:, None], tokens[None, :])
        real = children != NOWHERE
        open_to_request = real & (self._left(children) > 0)
        chosen = logits[:, tokens].float()
        if self.normalisation == "catalogue":
            total = chosen.masked_fill(~real, _NOTHING).logsumexp(-1, keepdim=True)
        else:
            total = logits.float().logsumexp(-1, keepdim=True)
        gains = (chosen - total).masked_fill(~open_to_request, IMPOSSIBLE)
        gains[:, 0].masked_fill_(self._complete(self.nodes), 0.0)
        if (missing := count - len(tokens)) > 0:
            gains = torch.nn.functional.pad(gains, (0, missing), value=IMPOSSIBLE)
            tokens = torch.nn.functional.pad(tokens, (0, missing), value=int(self.trie.level_tokens[self.level][0]))
        best, places = gains.topk(count, dim=-1)
        return best, tokens[places]

    def follow(self, tokens: Tensor, parents: Tensor) -> None:
        """Go on with these tokens (int64 [beams]) after these beams; complete ones stay where they are."""
        before = self.nodes[parents]
        self.nodes = torch.where(self._complete(before), before, self.trie.step(before, tokens))
        self.level += 1

    def _complete(self, nodes: Tensor) -> Tensor:
        return (nodes >= 0) & self.trie.complete[nodes.clamp(min=0)]

    def _left(self, nodes: Tensor) -> Tensor:
        """Items of the request below each node."""
        at = nodes.clamp(min=0)
        begin, end = self.trie.begin[at], self.trie.end[at]
        if self.part is None or self._places is None:
            return end - begin
        named = torch.searchsorted(self._places, end) - torch.searchsorted(self._places, begin)
        return end - begin - named if self.part.excludes else named
