"""Direct mode: beam search over real identifiers, as many steps as they have levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gream_ext.decoding.checks import check_numbers
from gream_ext.decoding.continuation import start
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie

_IMPOSSIBLE = float("-inf")


@torch.inference_mode()
def search(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Sequence[Sequence[int]],
    beams: int,
    parts: Sequence[SubCatalogue | None] | None = None,
    normalisation: Normalisation = "catalogue",
) -> list[Ranking]:
    """The ``beams`` likeliest items after each prompt (token ids, none empty).

    Each prompt is computed once. ``parts`` limits each request to a sub-catalogue; one that holds
    nothing fails alone, the others are answered.
    """
    restrictions = Restrictions(trie, parts if parts is not None else [None] * len(prompts))
    served = np.flatnonzero(restrictions.sizes() > 0)
    answers = [Ranking.failed("the sub-catalogue of this request holds no item: allow at least one") for _ in prompts]
    if len(served):
        run = _Search(model, trie, restrictions, served, beams, normalisation)
        nodes, scores = run.best([prompts[request] for request in served.tolist()])
        for request, own_nodes, own_scores in zip(served.tolist(), nodes, scores, strict=True):
            real = own_nodes != NOWHERE
            answers[request] = Ranking(trie.row_of(own_nodes[real]), own_scores[real])
    return answers


@dataclass
class _Search:
    model: LanguageModel
    trie: ItemTrie
    restrictions: Restrictions
    requests: np.ndarray
    beams: int
    normalisation: Normalisation

    def best(self, prompts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Complete nodes int64 and scores float32 [requests, beams], best first, `NOWHERE` where there is none."""
        trie, device = self.trie, self.model.device
        count = len(prompts)
        continuation = start(self.model, prompts, list(range(count)), room=max(1, trie.levels - 1))
        features = continuation.first
        nodes = self._settled(np.full((count, 1), ROOT, dtype=np.int64))
        scores = torch.zeros(count, 1, device=device)
        asking = self._asking(nodes)
        for level in range(trie.levels):
            if not len(asking):
                break
            width, tokens = nodes.shape[1], len(trie.level_tokens[level])
            gains, children = self._follow(features, nodes, asking, level)
            candidates = torch.cat([(scores[:, :, None] + gains).flatten(1), self._kept(scores, nodes)], dim=1)
            scores, chosen = candidates.topk(min(self.beams, candidates.shape[1]), dim=1)
            picked = chosen.cpu().numpy()
            parent = np.where(picked < width * tokens, picked // tokens, picked - width * tokens)
            flat = np.concatenate([children.reshape(count, -1), nodes], axis=1)
            reached = np.take_along_axis(flat, picked, axis=1)
            nodes = self._settled(np.where(torch.isinf(scores).cpu().numpy(), NOWHERE, reached))

            place = np.empty(count * width, dtype=np.int64)
            place[asking] = np.arange(len(asking))
            asking = self._asking(nodes)
            if level + 1 < trie.levels and len(asking):
                from_beam = (np.arange(count)[:, None] * width + parent).ravel()[asking]
                continuation.select(torch.from_numpy(place[from_beam]).to(device))
                features = continuation.advance(torch.from_numpy(trie.tokens[nodes.ravel()[asking]]).to(device))
        check_numbers(not bool(torch.isnan(scores).any()))
        return nodes, scores.cpu().numpy()

    def _settled(self, nodes: np.ndarray) -> np.ndarray:
        """Over the catalogue the rest of an item that alone stands below a node has probability 1: go to its end."""
        return self.trie.settled(nodes) if self.normalisation == "catalogue" else nodes

    def _asking(self, nodes: np.ndarray) -> np.ndarray:
        """Places of the beams whose next token the model is asked for: neither dead nor complete, int64."""
        return np.flatnonzero((nodes != NOWHERE) & ~self.trie.complete[nodes])

    def _follow(self, features: Tensor, nodes: np.ndarray, asking: np.ndarray, level: int) -> tuple[Tensor, np.ndarray]:
        """Log-probability and node of each token of this level after each beam, [requests, width, tokens].

        ``features`` are those of the ``asking`` beams. Minus infinity where the token leads to no item of the request.
        """
        trie, device = self.trie, self.model.device
        tokens = trie.level_tokens[level]
        owner, below = trie.below(nodes.ravel()[asking])
        slot, place = asking[owner], trie.token_place[below]
        request = self.requests[slot // nodes.shape[1]]
        allowed = self.restrictions.left(request, trie.begin[below], trie.end[below]) > 0
        real = np.zeros((len(asking), len(tokens)), dtype=bool)
        real[owner, place] = True
        children = np.full((nodes.size, len(tokens)), NOWHERE, dtype=np.int64)
        children[slot[allowed], place[allowed]] = below[allowed]

        scored = torch.from_numpy(tokens).to(device)
        if self.normalisation == "catalogue":
            logits = self.model.logits_of(features, scored)
            total = logits.masked_fill(~torch.from_numpy(real).to(device), _IMPOSSIBLE).logsumexp(-1, keepdim=True)
        else:
            logits, total = self.model.logits_and_total(features, scored)
        gains = logits.new_full(children.shape, _IMPOSSIBLE)
        gains[torch.from_numpy(asking).to(device)] = logits - total
        gains.masked_fill_(torch.from_numpy(children == NOWHERE).to(device), _IMPOSSIBLE)
        shape = (*nodes.shape, len(tokens))
        return gains.view(shape), children.reshape(shape)

    def _kept(self, scores: Tensor, nodes: np.ndarray) -> Tensor:
        """The scores of the beams that are complete already, [requests, width]; the others must go on."""
        done = (nodes != NOWHERE) & self.trie.complete[nodes]
        return scores.masked_fill(~torch.from_numpy(done).to(scores.device), _IMPOSSIBLE)
