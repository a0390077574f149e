"""The trie at 12 k, 100 k and 1 M items: ``pytest tests/benchmarks -k decode_trie -s``.

``GREAM_BENCHMARK_SIZES`` names other sizes.
"""

import os
import time
from statistics import median

import numpy as np
import pytest
import torch

from gream_ext.decoding.processors import ItemProcessor
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import ItemTrie
from gream_ext.items.conflict import add_conflict_slot

SIZES = [int(size) for size in os.environ.get("GREAM_BENCHMARK_SIZES", "12000,100000,1000000").split(",")]
ROWS, CODES, VOCABULARY, ROUNDS = 400, 256, 151_936, 60


def identifiers(items: int) -> np.ndarray:
    """Token ids int64 [items, 5]: random codes of four levels of 256, and a conflict slot."""
    chance = np.random.default_rng(0)
    codes, sizes = add_conflict_slot(chance.integers(0, CODES, (items, 4)), [CODES] * 4)
    return VOCABULARY + np.cumsum([0, *sizes[:-1]]) + codes.astype(np.int64)


def milliseconds(function, rounds=ROUNDS):
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return 1000 * median(times)


def use(trie):
    """Make what is made at the first use."""
    return trie.complete, trie.leaf, trie.rank_of_row, trie.level_tokens, trie.token_rank, trie.fanout, trie._edges


def tensors(trie):
    """All that a trie holds, with what the first use makes."""
    for value in vars(trie).values():
        yield from value if isinstance(value, tuple) else [value]


@pytest.fixture(scope="module")
def tries():
    found = {}
    for items in SIZES:
        ids = identifiers(items)
        trie = ItemTrie.build(ids)
        use(trie)
        found[items] = ids, trie
    return found


def frontier(trie, ids, level):
    """The nodes of 400 rows that have written ``level`` tokens of a real identifier."""
    rows = np.random.default_rng(1).integers(0, len(ids), ROWS)
    return trie.walk(torch.from_numpy(ids[rows, :level]))


def step_costs(trie, ids):
    """µs a row: all children by tokens written, the children within a sub-catalogue, one step by a token."""
    cells = []
    for level in range(5):
        nodes = frontier(trie, ids, level)
        most = [*trie.fanout, 1][level]
        cells.append(milliseconds(lambda nodes=nodes, most=most: trie.tokens[trie.children_of(nodes, most)[0]]))
    restrictions = Restrictions.of(trie, [SubCatalogue.only(np.arange(0, len(ids), 2))])
    nodes = frontier(trie, ids, 1)

    def restricted():
        below, real = trie.children_of(nodes, trie.fanout[1])
        left = restrictions.left(torch.zeros_like(nodes)[:, None], trie.begin[below], trie.end[below])
        return real & (left > 0)

    cells.append(milliseconds(restricted))
    at = frontier(trie, ids, 2)
    tokens = torch.from_numpy(ids[np.random.default_rng(1).integers(0, len(ids), ROWS), 2])
    cells.append(milliseconds(lambda: trie.step(at, tokens)))
    return [1000 * cell / ROWS for cell in cells]


def test_decode_trie_step(tries):
    """A step costs what its children cost: nothing of it grows with the vocabulary, hardly anything with the items."""
    print(
        f"\n{ROWS} rows; µs a row: all children of a node, by how many tokens are written; children within half of the"
    )
    print("catalogue after one token; one step by a given token")
    names = ("0", "1", "2", "3", "4", "within half", "one step")
    print(f"{'items':>10}" + "".join(f"{name:>{max(8, len(name) + 2)}}" for name in names))
    for items, (ids, trie) in tries.items():
        cells = zip(names, step_costs(trie, ids), strict=True)
        print(f"{items:>10,}" + "".join(f"{cell:>{max(8, len(name) + 2)}.2f}" for name, cell in cells), flush=True)


def test_decode_trie_processor(tries):
    """A whole call of the logits processor beside filling the scores, which any constraint must do."""
    scores = torch.zeros(ROWS, VOCABULARY + 2048)
    print(f"\n{ROWS} rows of {scores.shape[1]:,} scores; ms a call, by how many tokens are written")
    print(f"{'items':>10}{'0':>8}{'1':>8}{'2':>8}{'3':>8}{'4':>8}{'  filling alone':>16}")
    for items, (ids, trie) in tries.items():
        processor = ItemProcessor(trie, 3, 0)
        cells = []
        for level in range(5):
            rows = np.random.default_rng(1).integers(0, items, ROWS)
            written = torch.from_numpy(np.concatenate([np.full((ROWS, 3), 7), ids[rows, :level]], axis=1))
            cells.append(milliseconds(lambda written=written, processor=processor: processor(written, scores), 8))
        floor = milliseconds(lambda: torch.full_like(scores, float("-inf")), 8)
        print(f"{items:>10,}" + "".join(f"{cell:>8.1f}" for cell in cells) + f"{floor:>16.1f}", flush=True)


@pytest.mark.timeout(3600)
def test_decode_trie_build():
    """Building costs about what sorting the same identifiers costs."""
    print(f"\n{'items':>10}{'lexsort s':>11}{'build s':>9}{'ratio':>7}{'ready s':>9}{'MB':>8}")
    for items in SIZES:
        ids = identifiers(items)[np.random.default_rng(2).permutation(items)]
        times = np.array([build_times(ids) for _ in range(5)])
        sort, build, ready = np.median(times, axis=0)
        trie = ItemTrie.build(ids)
        use(trie)
        size = sum(one.nbytes for one in tensors(trie) if isinstance(one, torch.Tensor)) / 1e6
        ratio = float(np.median(times[:, 1] / times[:, 0]))
        print(f"{items:>10,}{sort:>11.3f}{build:>9.3f}{ratio:>7.2f}{ready:>9.3f}{size:>8.1f}", flush=True)


def build_times(ids):
    """Seconds of numpy's lexsort, of building, and of building with all that is made at the first use."""
    began = time.perf_counter()
    order = np.lexsort(ids.T[::-1])
    sorted_ = time.perf_counter()
    trie = ItemTrie.build(ids)
    built = time.perf_counter()
    use(trie)
    ready = time.perf_counter()
    assert (trie.rows.numpy() == order).all()
    return sorted_ - began, built - sorted_, ready - sorted_
