"""The search that a GPU runs: equal to the one of a CPU, and never waiting for the host between prompts and end."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gream_ext.decoding import graphs, partial_attention
from gream_ext.decoding.beam import Asked, decode, search
from gream_ext.decoding.language_model import LanguageModel, Traits
from gream_ext.decoding.partial_attention import fused, merged, plain
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from tests.support.tiny_models import tiny_llama, tiny_qwen3
from tests.unit.test_decoding_beam import PROMPTS, catalogue

PARTS = [None, SubCatalogue.only([1, 4, 5, 9]), SubCatalogue.without([0, 2, 7])]
SYNCHRONISES = {
    "_local_scalar_dense",
    "nonzero",
    "is_nonzero",
    "item",
    "equal",
    "masked_select",
    "_unique2",
    "unique_dim",
}
VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "expand", "permute", "select", "slice",
    "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip
"""Operators that compute nothing: no kernel is launched for them."""


class Counted(TorchDispatchMode):
    """Operators by name; ``waits``: those that read something back to the host."""

    def __init__(self):
        super().__init__()
        self.operators, self.waits, self.mixed = Counter(), [], []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        # A mask as an index is a `nonzero` in disguise.
        masks = name in ("index", "index_put_") and any(
            one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1]
        )
        found = function(*args, **(kwargs or {}))
        moved = isinstance(found, torch.Tensor) and any(
            isinstance(one, torch.Tensor) and one.device.type != "cpu" and found.device.type == "cpu" for one in args
        )
        devices = {
            one.device.type for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor) and one.dim()
        }
        if len(devices) > 1:
            self.mixed.append(name)
        self.operators[name] += 1
        if name in SYNCHRONISES or masks or moved:
            self.waits.append(name)
        return found

    @property
    def launches(self):
        return sum(count for name, count in self.operators.items() if name not in VIEWS)


def ready(trie):
    """Make what is made once, at the first search."""
    trie.complete, trie.leaf, trie.rank_of_row, trie.level_tokens, trie.token_rank, trie.fanout  # noqa: B018
    return trie


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama])
def test_it_finds_what_the_search_on_a_cpu_finds(make, mixed, normalisation):
    model, trie = LanguageModel(make()), ItemTrie.build(catalogue(mixed=mixed))
    for beams in (1, 7, 50):
        for parts in (None, PARTS):
            ragged, static = (
                search(model, trie, PROMPTS, beams, parts, normalisation, static=one) for one in (False, True)
            )
            for ours, theirs in zip(static, ragged, strict=True):
                assert ours.rows.tolist() == theirs.rows.tolist()
                np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("parts", [None, PARTS])
def test_it_waits_for_nothing_from_the_prompts_to_the_end(normalisation, parts):
    model, trie = LanguageModel(tiny_qwen3()), ready(ItemTrie.build(catalogue()))
    asked = Asked(PROMPTS, parts or [None] * 3, 7, normalisation)
    prompts, restrictions = asked.tensors(trie)
    with torch.no_grad(), Counted() as static:
        decode(model, trie, prompts, restrictions, 7, normalisation, static=True)
    assert static.waits == []
    # The instrument sees what there is to see: on a CPU the search asks what is certain.
    with torch.no_grad(), Counted() as ragged:
        decode(model, trie, prompts, restrictions, 7, normalisation, static=False)
    assert "nonzero" in ragged.waits


def test_launches_do_not_grow_with_beams_requests_or_items():
    """A search of four levels through two layers: 120 for the prompts, 210 for each of three steps, 60 a level."""
    counts = []
    for items, beams, prompts in ((30, 3, PROMPTS[:1]), (30, 50, PROMPTS), (90, 20, PROMPTS)):
        model, trie = LanguageModel(tiny_qwen3()), ready(ItemTrie.build(catalogue(items)))
        given = Asked(prompts, [None] * len(prompts), beams, "catalogue").tensors(trie)
        with torch.no_grad(), Counted() as counted:
            decode(model, trie, *given, beams, "catalogue", static=True)
        counts.append(counted.launches)
    assert max(counts) - min(counts) <= 20 and max(counts) <= 900, counts


def elsewhere(value):
    """A tensor, or a tuple of them, on the device ``meta``, where shapes are and values are not."""
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return tuple(map(elsewhere, value)) if isinstance(value, tuple) else value


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
@pytest.mark.parametrize("parts", [None, PARTS])
def test_it_would_run_on_another_device(normalisation, parts):
    """Without any value, and with no tensor of the host's among those of the device: what a CUDA graph needs."""
    trie = ready(ItemTrie.build(catalogue()))
    inputs = graphs.bucketed(Asked(PROMPTS, parts or [None] * 3, 7, normalisation), trie)
    moved = [
        type(one)(**{field.name: elsewhere(getattr(one, field.name)) for field in fields(one)})
        for one in (trie, *inputs)
    ]
    vars(moved[0]).update({name: elsewhere(value) for name, value in vars(trie).items()})
    model = LanguageModel(tiny_qwen3().bfloat16().to("meta"), Traits(True, True, True, True))
    with torch.no_grad(), Counted() as counted:
        nodes, scores = decode(model, *moved, 7, normalisation, static=True)
    assert nodes.device.type == scores.device.type == "meta" and nodes.shape == (4, 7)
    assert counted.waits == [] and counted.mixed == []


@pytest.mark.parametrize("longest", [16, 13])
def test_the_kernels_of_a_gpu_take_what_they_are_given(longest):
    """Their shapes, by torch's own rules, where there is no GPU to run them."""
    prompt = torch.empty(3, 2, longest, 8, dtype=torch.bfloat16, device="meta")
    query = torch.empty(3, 2, 40, 8, dtype=torch.bfloat16, device="meta")
    bias = torch.empty(3, 1, 1, longest, dtype=torch.bfloat16, device="meta")
    for mask in (None, bias):
        for kernel in (plain, partial_attention.on_gpu):
            output, total = kernel(query, prompt, prompt, mask, 0.5)
            assert output.shape == (3, 2, 40, 8) and total.shape == (3, 2, 40, 1)


@pytest.mark.parametrize("padded", [False, True])
def test_two_parts_are_the_whole(padded):
    rng = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 2, count, 8, generator=rng) for count in (5, 20, 20))
    bias = mask = None
    if padded:
        outside = torch.arange(13) >= torch.tensor([[4], [13], [1]])
        bias = torch.zeros(3, 13).masked_fill(outside, float("-inf"))[:, None, None]
        mask = torch.nn.functional.pad(bias, (0, 7))
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.4)
    own = plain(query, key[:, :, 13:], value[:, :, 13:], None, 0.4)
    for attend in (plain, fused):
        prompt = attend(query, key[:, :, :13], value[:, :, :13], bias, 0.4)
        torch.testing.assert_close(merged(prompt, own), whole, atol=1e-5, rtol=1e-5)


def again(search):
    """What a CUDA graph does, without one: the same search on the same addresses."""
    found = search()

    def replay():
        for held, new in zip(found, search(), strict=True):
            held.copy_(new)

    return found, replay


@pytest.mark.parametrize("normalisation", ["catalogue", "vocabulary"])
def test_a_bucket_is_captured_once_and_answers_others(normalisation):
    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue())
    captured = []

    def capture(search):
        captured.append(search)
        return again(search)

    rounds = [(PROMPTS, None), (PROMPTS[::-1], None), ([PROMPTS[1], PROMPTS[1][:1], [9] * 13, [3]], None)]
    rounds += [(prompts, [SubCatalogue.only([row, 3, 8]) for row in range(len(prompts))]) for prompts, _ in rounds]
    with torch.inference_mode():
        for prompts, parts in rounds:
            asked = Asked(prompts, parts or [None] * len(prompts), 7, normalisation)
            nodes, scores = graphs.captured_search(model, trie, asked, capture)
            for request, ranking in enumerate(search(model, trie, prompts, 7, parts, normalisation)):
                real = nodes[request] >= 0
                assert trie.row_of(nodes[request][real]).tolist() == ranking.rows.tolist()
                np.testing.assert_allclose(scores[request][real], ranking.scores, atol=1e-4)
    assert len(captured) == 2 and len(model.graphs) == 2


def test_what_cannot_be_captured_is_computed_all_the_same(monkeypatch):
    def fails(search):
        raise RuntimeError("operation not permitted when stream is capturing")

    model, trie = LanguageModel(tiny_qwen3()), ItemTrie.build(catalogue())
    with torch.inference_mode():
        found = [
            graphs.captured_search(model, trie, Asked(PROMPTS, [None] * 3, 7, "catalogue"), fails) for _ in range(3)
        ]
        for _, scores in found[1:]:
            assert torch.equal(scores, found[0][1])
        monkeypatch.setattr(graphs, "GRAPHS", 2)
        for longest in (20, 40, 60):
            graphs.captured_search(model, trie, Asked([[5] * longest], [None], 7, "catalogue"), again)
    assert len(model.graphs) == 2
