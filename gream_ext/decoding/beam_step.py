"""One step of a constrained beam search in torch: shapes depend on the catalogue and the width alone.

The same functions serve direct mode on a CPU and on a GPU (`gream_ext.decoding.beam`) and SGLang's own beam search
(`gream_ext.plugins.sglang`). Nothing is read back to the host.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.restriction import Restrictions
from gream_ext.decoding.trie import NOWHERE, ItemTrie

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
