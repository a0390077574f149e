"""Direct mode: beam search over real identifiers, as many steps as they have levels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gream_ext.decoding.beam_step import IMPOSSIBLE, Children, deciding_levels, expand, select, settle
from gream_ext.decoding.checks import NOTHING_ALLOWED, check_numbers
from gream_ext.decoding.continuation import Prompts, start
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import NodePrior, Prior
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie
from gream_ext.errors import ModelFault


@torch.inference_mode()
def search(
    model: LanguageModel,
    trie: ItemTrie,
    prompts: Sequence[Sequence[int]],
    beams: int,
    parts: Sequence[SubCatalogue | None] | None = None,
    normalisation: Normalisation = "catalogue",
    static: bool | None = None,
    prior: Prior | None = None,
) -> list[Ranking]:
    """The ``beams`` likeliest items after each prompt (token ids, none empty).

    Each prompt is computed once. ``parts`` limits each request to a sub-catalogue; one that holds
    nothing fails alone, the others are answered. `ModelFault` where the logits are no numbers, or give no allowed item
    any probability.

    ``static``: all beams are computed, so that shapes are known beforehand and nothing is read back between the
    prompts and the end: what a GPU wants, and there a search that is asked for again is captured as a CUDA graph.
    Otherwise what is certain is not computed, which on a CPU is less work. None: as the device wants it. Both give the
    same items, in float32 with the same scores within rounding; in bfloat16 scores depend a little on which requests
    stand together, and near ties may change places.

    ``prior`` has a mass of every item for each prompt, by which beams are guided and items scored; no graph then.
    """
    trie = trie.to(model.device)
    parts = list(parts) if parts is not None else [None] * len(prompts)
    sizes = Restrictions.of(trie, parts).sizes
    served = np.flatnonzero(sizes > 0).tolist()
    answers = [Ranking.failed(NOTHING_ALLOWED) for _ in prompts]
    if not served:
        return answers
    asked = Asked(
        [prompts[request] for request in served], [parts[request] for request in served], beams, normalisation
    )
    if static is None:
        static = model.device.type != "cpu" and model.traits.shares_prompts
    guide = None if prior is None else prior.take(served).on(trie, asked.parts)
    if static and guide is None and model.device.type == "cuda":
        from gream_ext.decoding.graphs import captured_search  # only where there are graphs

        nodes, scores = captured_search(model, trie, asked)
    else:
        nodes, scores = decode(model, trie, *asked.tensors(trie), beams, normalisation, static, guide)
    rows, found = trie.rows[trie.begin[nodes.clamp(min=0)]].cpu().numpy(), scores.cpu().numpy()
    check_numbers(not np.isnan(found).any())
    for place, request in enumerate(served):
        real = found[place] != IMPOSSIBLE
        if not real.any():
            raise ModelFault(
                "the model's logits are minus infinity for every allowed item: its training diverged, or its weights "
                "are damaged"
            )
        answers[request] = Ranking(rows[place][real].astype(np.int64), found[place][real])
    return answers


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
