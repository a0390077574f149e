"""The beams of one request of SGLang's, taken along the trie by the step that direct mode takes.

All shapes depend on the beam width and the catalogue alone, and nothing is read back to the host, so that SGLang's
overlap of scheduling and computing is kept.
"""

import torch
from torch import Tensor

from gream_ext.decoding.beam_step import expand
from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import ROOT, ItemTrie
from gream_ext.inference.engines.sglang_request import IMPOSSIBLE


class Frontier:
    """Where the beams of one request stand: ``nodes`` int64 [beams], at first one at the root.

    ``trie`` stands on the device of the logits.
    """

    def __init__(self, trie: ItemTrie, part: SubCatalogue | None, normalisation: Normalisation):
        self.trie, self.normalisation = trie, normalisation
        self.nodes = torch.full((1,), ROOT, dtype=torch.int64, device=trie.device)
        self.level = 0
        self._restrictions = Restrictions.of(trie, [part])

    def candidates(self, logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The ``count`` likeliest tokens after each beam, float32 and int64 [beams, count].

        ``logits`` [beams, vocabulary]. `IMPOSSIBLE` where a token leads to no item of the request. A beam whose item
        is complete already has one candidate of log-probability 0, whatever token it is.
        """
        trie = self.trie
        total = None if self.normalisation == "catalogue" else logits.float().logsumexp(-1, keepdim=True)
        owner = torch.zeros_like(self.nodes)
        below, gains = expand(trie, self.nodes, owner, self._restrictions, self.level, logits, trie.tokens, total)
        gains = gains.clamp(min=IMPOSSIBLE)
        more = max(0, count - gains.shape[1])
        gains = torch.nn.functional.pad(gains, (0, more), value=IMPOSSIBLE)
        below = torch.nn.functional.pad(below, (0, more), value=1)
        gains[:, -1].masked_fill_(trie.is_complete(self.nodes), 0.0)
        best, places = gains.topk(count, dim=-1)
        return best, trie.tokens[below.gather(1, places)].long()

    def follow(self, tokens: Tensor, parents: Tensor) -> None:
        """Go on with these tokens (int64 [beams]) after these beams; complete ones stay where they are."""
        before = self.nodes[parents]
        self.nodes = torch.where(self.trie.is_complete(before), before, self.trie.step(before, tokens))
        self.level += 1
