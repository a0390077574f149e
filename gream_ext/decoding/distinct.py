"""Different items after a prompt, drawn from the model: sampling without replacement over the trie.

Stochastic beam search (Kool, van Hoof and Welling 2019): a beam search for the items whose log-probability with
Gumbel noise is highest, in which a node's noise is the largest of those below it. Its result is distributed as drawing
items one after another, each among those that are left.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gream_ext.decoding.beam_step import IMPOSSIBLE, Children, deciding_levels, expand, select
from gream_ext.decoding.continuation import Prompts, start
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.restriction import Restrictions
from gream_ext.decoding.trie import ROOT, ItemTrie
from gream_ext.errors import GreamError

ROWS_AT_ONCE = 1024


@torch.inference_mode()
def distinct_items(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Sequence[Sequence[int]],
    count: int,
    temperature: float,
    seeds: Sequence[int],
) -> Tensor:
    """``count`` different items after each prompt (token ids, none empty), in the order in which they are drawn.

    The distribution is the model's over the catalogue, each token's at ``temperature``, above 0. What a prompt gets
    depends on it and on its seed, not on the prompts beside it. Returns int64 [prompts, count], rows of the item index.
    `GreamError` where the catalogue has fewer items.
    """
    if not 1 <= count <= len(trie):
        raise GreamError(f"a catalogue of {len(trie)} items has no {count} different ones")
    trie, at_once = trie.to(model.device), max(1, ROWS_AT_ONCE // count)
    parts = [
        _search(model, trie, prompts[begin : begin + at_once], count, temperature, seeds[begin : begin + at_once])
        for begin in range(0, len(prompts), at_once)
    ]
    return torch.cat(parts) if parts else torch.empty(0, count, dtype=torch.int64)


def _search(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Sequence[Sequence[int]],
    count: int,
    temperature: float,
    seeds: Sequence[int],
) -> Tensor:
    noise = torch.stack([_gumbel(seed, len(trie.tokens)) for seed in seeds]).to(trie.device)
    everything = Restrictions.of(trie, [None] * len(prompts))
    levels = deciding_levels(trie, "catalogue")
    continuation = start(model, Prompts.of(prompts, trie.device), capacity=max(1, levels - 1))
    hidden = continuation.first
    nodes = trie.settled(torch.full((len(prompts), 1), ROOT, dtype=torch.int64, device=trie.device))
    logprobs = torch.zeros(len(prompts), 1, device=trie.device)
    noisy = torch.zeros_like(logprobs)
    for level in range(levels):
        width = nodes.shape[1]
        requests = torch.arange(nodes.numel(), device=trie.device) // width
        logits = model.logits_of(hidden, trie.level_tokens[level]) / temperature
        found = expand(trie, nodes.flatten(), requests, everything, level, logits, trie.token_rank)
        below = (logprobs.view(-1, 1) + found.gains).masked_fill(trie.is_complete(nodes).view(-1, 1), IMPOSSIBLE)
        own = _with_largest(noisy.view(-1, 1), below + noise[requests[:, None], found.nodes])
        gains = (own - noisy.view(-1, 1)).masked_fill(own == IMPOSSIBLE, IMPOSSIBLE)  # a dead beam's noise is one, too
        step = select(trie, nodes, noisy, Children(found.nodes, gains), count)
        # A child stands so far behind its parent's first one; what was complete stays as it is.
        parents = nodes.gather(1, step.parents)
        grown = step.nodes != parents
        rows = torch.arange(len(prompts), device=trie.device)[:, None] * width + step.parents
        place = (step.nodes - trie.children[parents.clamp(min=0)]).clamp(0, found.nodes.shape[1] - 1)
        logprobs = torch.where(grown, below[rows, place], logprobs.gather(1, step.parents))
        nodes, noisy = trie.settled(step.nodes), step.scores
        if level + 1 < levels:
            continuation.select(rows.flatten(), nodes.shape[1])
            hidden = continuation.advance(trie.tokens[nodes.clamp(min=0)].long().clamp(min=0).flatten())
    return trie.row_of(nodes)


def _gumbel(seed: int, count: int) -> Tensor:
    return torch.from_numpy(np.random.Generator(np.random.Philox(seed)).gumbel(size=count).astype(np.float32))


def _with_largest(largest: Tensor, values: Tensor) -> Tensor:
    """Independent Gumbel variables [rows, …] under the condition that the largest of a row is ``largest`` [rows, 1].

    Appendix B.3 of the paper, stable for every size. Rows without any possible value are left impossible.
    """
    possible = values.isfinite()
    gap = (values - values.amax(-1, keepdim=True)).masked_fill(~possible, 0.0)
    shifted = largest - values.masked_fill(~possible, 0.0) + torch.log1p(-gap.exp())
    found = largest - shifted.clamp(min=0) - torch.log1p((-shifted.abs()).exp())
    return found.masked_fill(~possible, IMPOSSIBLE)
