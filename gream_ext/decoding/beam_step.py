"""A constrained beam search in torch, step by step: shapes depend on the catalogue and the width alone.

The same functions serve direct mode on a CPU and on a GPU (`gream_ext.decoding.beam`) and SGLang's own beam search
(`gream_ext.plugins.sglang`). Nothing is read back to the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gream_ext.decoding.continuation import Prompts, start
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import NodePrior
from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie

IMPOSSIBLE = float("-inf")


class Children(NamedTuple):
    """What may follow each of some beams."""

    nodes: Tensor
    """int64 [beams, fan-out]."""
    gains: Tensor
    """float32 [beams, fan-out]: the log-probability of the step, minus infinity where it leads to no allowed item."""


def expand(
    trie: ItemTrie,
    nodes: Tensor,
    requests: Tensor,
    restrictions: Restrictions,
    level: int,
    logits: Tensor,
    columns: Tensor,
    total: Tensor | None = None,
) -> Children:
    """The children of ``nodes`` at ``level`` (int64 [beams], `NOWHERE` among them) and what each step gains.

    ``requests`` int64 [beams] says whose beam it is; ``logits`` [beams, tokens] has the token that leads to a
    node in the column ``columns`` (int32 [nodes of the trie]). ``total`` float32 [beams, 1] is the logsumexp over the
    vocabulary; None normalises over the tokens that continue a real identifier, allowed or not.
    """
    below, real = trie.children_of(nodes, trie.fanout[level])
    chosen = logits.gather(1, columns[below].long().clamp(min=0, max=logits.shape[1] - 1)).float()
    if total is None:
        total = chosen.masked_fill(~real, IMPOSSIBLE).logsumexp(-1, keepdim=True)
    allowed = real & (restrictions.left(requests[:, None], trie.begin[below], trie.end[below]) > 0)
    return Children(below, (chosen - total).masked_fill(~allowed, IMPOSSIBLE))


class Beams(NamedTuple):
    """The beams of some requests, best first."""

    nodes: Tensor
    """int64 [requests, width], `NOWHERE` where there is none."""
    scores: Tensor
    """float32 [requests, width]."""
    parents: Tensor
    """int64 [requests, width]: which beam before the step each goes on from."""


def select(trie: ItemTrie, nodes: Tensor, scores: Tensor, children: Children, width: int) -> Beams:
    """The ``width`` likeliest continuations of each request's beams; complete ones stay as they are.

    ``nodes`` and ``scores`` [requests, beams], ``children`` [requests × beams, fan-out].
    """
    requests, beams = nodes.shape
    fanout = children.nodes.shape[1]
    kept = scores.masked_fill(~trie.is_complete(nodes), IMPOSSIBLE)
    grown = scores.view(-1, 1) + children.gains
    candidates = torch.cat([grown.view(requests, beams * fanout), kept], dim=1)
    best, chosen = candidates.topk(min(width, candidates.shape[1]), dim=1)
    reached = torch.cat([children.nodes.view(requests, beams * fanout), nodes], dim=1).gather(1, chosen)
    grows = chosen < beams * fanout
    parents = torch.where(grows, chosen // max(1, fanout), chosen - beams * fanout)
    return Beams(reached.masked_fill(best == IMPOSSIBLE, NOWHERE), best, parents)


def settle(trie: ItemTrie, nodes: Tensor, normalisation: Normalisation) -> Tensor:
    """Over the catalogue the rest of an item that alone stands below a node has probability 1: go to its end."""
    return trie.settled(nodes) if normalisation == "catalogue" else nodes


def deciding_levels(trie: ItemTrie, normalisation: Normalisation) -> int:
    """The levels at which the model is asked: over the catalogue none after the last at which two tokens may follow."""
    if normalisation == "vocabulary":
        return trie.levels
    return max((level + 1 for level, fanout in enumerate(trie.fanout) if fanout > 1), default=0)


@dataclass(frozen=True)
class Asked:
    """What is searched for: requests whose sub-catalogues hold something."""

    prompts: Sequence[Sequence[int]]
    parts: Sequence[SubCatalogue | None]
    beams: int
    normalisation: Normalisation

    def tensors(self, trie: ItemTrie) -> tuple[Prompts, Restrictions]:
        """On the trie's device."""
        return Prompts.of(self.prompts, trie.device), Restrictions.of(trie, self.parts)


def decode(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Prompts,
    restrictions: Restrictions,
    beams: int,
    normalisation: Normalisation,
    static: bool,
    prior: NodePrior | None = None,
) -> tuple[Tensor, Tensor]:
    """Complete nodes int64 and scores float32 [requests, beams], best first, `NOWHERE` where there is none.

    With ``static`` nothing is read back to the host.
    """
    run = _Search(model, trie, restrictions, normalisation, static, prior)
    levels = deciding_levels(trie, normalisation)
    continuation = start(model, prompts, capacity=max(1, levels - 1))
    hidden = continuation.first
    nodes = torch.full((len(prompts), 1), ROOT, dtype=torch.int64, device=trie.device)
    nodes = settle(trie, nodes, normalisation)
    scores = torch.zeros(len(prompts), 1, device=trie.device)
    if prior is not None:
        scores = scores + prior.of(torch.arange(len(prompts), device=trie.device)[:, None], nodes)
    asking = run.asking(nodes)
    for level in range(levels):
        if asking is not None and not len(asking):
            break
        width = nodes.shape[1]
        step = select(trie, nodes, scores, run.children(hidden, nodes, asking, level), beams)
        nodes, scores = settle(trie, step.nodes, normalisation), step.scores
        if level + 1 == levels:
            break
        rows = torch.arange(len(prompts), device=trie.device)[:, None] * width + step.parents
        tokens = trie.tokens[nodes.clamp(min=0)].long().clamp(min=0)
        if asking is None:
            continuation.select(rows.flatten(), nodes.shape[1])
            hidden = continuation.advance(tokens.flatten())
            continue
        place = torch.empty(len(prompts) * width, dtype=torch.int64, device=trie.device)
        place[asking] = torch.arange(len(asking), device=trie.device)
        asking = run.asking(nodes)
        if asking is not None and len(asking):
            continuation.select(place[rows.flatten()[asking]])
            hidden = continuation.advance(tokens.flatten()[asking])
    return nodes, scores


@dataclass
class _Search:
    model: LanguageModel
    trie: ItemTrie
    restrictions: Restrictions
    normalisation: Normalisation
    static: bool
    prior: NodePrior | None

    def asking(self, nodes: Tensor) -> Tensor | None:
        """Which beams' next token the model is asked for, int64: those neither dead nor complete. None: all of them."""
        if self.static:
            return None
        return ((nodes != NOWHERE) & ~self.trie.is_complete(nodes)).flatten().nonzero()[:, 0]

    def children(self, hidden: Tensor, nodes: Tensor, asking: Tensor | None, level: int) -> Children:
        """What may follow each beam; ``hidden`` are the states of the ``asking`` ones."""
        trie = self.trie
        tokens = trie.level_tokens[level]
        if self.normalisation == "catalogue":
            logits, total = self.model.logits_of(hidden, tokens), None
        else:
            logits, total = self.model.logits_and_total(hidden, tokens)
        beams = torch.arange(nodes.numel(), device=trie.device) if asking is None else asking
        requests = beams // nodes.shape[1]
        at = nodes.flatten()[beams]
        found = expand(trie, at, requests, self.restrictions, level, logits, trie.token_rank, total)
        if self.prior is not None:
            gained = self.prior.of(requests[:, None], found.nodes) - self.prior.of(requests, at.clamp(min=0))[:, None]
            found = found._replace(gains=found.gains + gained)
        if asking is None:
            return found
        shape = (nodes.numel(), found.nodes.shape[1])
        below = found.nodes.new_full(shape, NOWHERE).index_copy(0, asking, found.nodes)
        return Children(below, found.gains.new_full(shape, IMPOSSIBLE).index_copy(0, asking, found.gains))
