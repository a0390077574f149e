"""Whole searches as CUDA graphs: one launch instead of some thousand.

A search whose shapes are known is captured once, prompts and steps together, and replayed on other numbers. Shapes are
rounded up to buckets so that few graphs serve many searches; what a bucket adds are prompts of one token that nobody
reads. A bucket is captured when it is asked for the second time, and runs without a graph until then, or for good
where capturing fails.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import torch
from torch import Tensor

from gream_ext.decoding.beam_step import Asked, decode
from gream_ext.decoding.continuation import Prompts
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.restriction import Restrictions
from gream_ext.decoding.trie import ItemTrie

logger = logging.getLogger(__name__)

GRAPHS = 24
"""Buckets that are kept for a model, the last ones used."""
SEEN_ONCE, FAILS = "seen once", "fails"
"""In place of a graph."""

Found = tuple[Tensor, Tensor]


@dataclass
class Captured:
    """A search with inputs and outputs at fixed addresses. ``replay`` computes ``found`` from what stands in them."""

    prompts: Prompts
    restrictions: Restrictions
    found: Found
    replay: Callable[[], Any]
    trie: ItemTrie
    """Kept alive: the graph reads its tensors."""

    def run(self, prompts: Prompts, restrictions: Restrictions) -> Found:
        for held, given in ((self.prompts, prompts), (self.restrictions, restrictions)):
            for field in fields(held):
                if isinstance(tensor := getattr(held, field.name), Tensor):
                    tensor.copy_(getattr(given, field.name))
        self.replay()
        return self.found


Capture = Callable[[Callable[[], Found]], tuple[Found, Callable[[], Any]]]
"""Takes a search on fixed inputs; returns its outputs and what computes them again."""


def captured_search(model: LanguageModel, trie: ItemTrie, asked: Asked, capture: Capture | None = None) -> Found:
    """What `beam_step.decode` finds, nodes and scores [requests, beams], by a graph if there is one."""
    requests = len(asked.prompts)
    prompts, restrictions = bucketed(asked, trie)
    named = 0 if restrictions.keys is None else len(restrictions.keys)
    key = (id(trie), tuple(prompts.ids.shape), named, asked.beams, asked.normalisation)

    def eager() -> Found:
        return decode(model, trie, prompts, restrictions, asked.beams, asked.normalisation, static=True)

    held = model.graphs.pop(key, None)
    if held == SEEN_ONCE:
        try:
            held = Captured(prompts, restrictions, *(capture or capture_graph)(eager), trie)
        except Exception as error:  # whatever cannot be captured can still be computed
            logger.warning("gream_ext: a search of %s tokens runs without a CUDA graph: %s", prompts.ids.shape, error)
            held = FAILS
    model.graphs[key] = held or SEEN_ONCE
    found = held.run(prompts, restrictions) if isinstance(held, Captured) else eager()
    while len(model.graphs) > GRAPHS:
        del model.graphs[next(iter(model.graphs))]
    return found[0][:requests], found[1][:requests]


def bucketed(asked: Asked, trie: ItemTrie) -> tuple[Prompts, Restrictions]:
    """The inputs of a search, rounded up to the shapes of its bucket."""
    requests, longest = len(asked.prompts), max(map(len, asked.prompts))
    count = 1 << (requests - 1).bit_length() if requests <= 8 else _multiple(requests, 8)
    prompts = Prompts.of(asked.prompts, trie.device, count, _multiple(longest, 16 if longest <= 256 else 64))
    restrictions = Restrictions.of(trie, asked.parts)
    if restrictions.keys is not None:
        restrictions = restrictions.padded(count, 1 << max(6, (len(restrictions.keys) - 1).bit_length()))
    return Prompts(prompts.ids, prompts.lengths, padded=True), restrictions


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def capture_graph(search: Callable[[], Found]) -> tuple[Found, Callable[[], Any]]:
    """A search as a CUDA graph; all graphs share one pool, for never two run at once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        search()  # what kernels make at their first call must not be captured
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool(), capture_error_mode="thread_local"):
        found = search()
    return found, graph.replay


@cache
def _pool() -> Any:
    return torch.cuda.graph_pool_handle()
