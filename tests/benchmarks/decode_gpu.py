"""Direct mode on one GPU, in under five minutes: ``python tests/benchmarks/decode_gpu.py [seconds]``.

Needs torch with CUDA, transformers and this checkout. Random weights in bfloat16: only time is looked at. For each
load, in milliseconds (median of 5): the model's own prefill as it stands and as a CUDA graph, our search without and
with its graph, its normalisation over the vocabulary, `generate` with ``prefix_allowed_tokens_fn`` for a load; then the
launches and host synchronisations of one search as `torch.profiler` counts them. Loads that would not end within
``seconds`` (270) are left out, and say so. On a CPU a tiny model runs through the same lines, to try the script.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from gream_ext.decoding.beam import search
from gream_ext.decoding.graphs import capture_graph
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.trie import ItemTrie

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
VOCABULARY, SIZE = 151_936, 256
BUDGET = float(sys.argv[1]) if len(sys.argv) > 1 else 270.0
BEGAN = time.perf_counter()
MODELS: dict[str, dict[str, int]] = {
    "1.7 B": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4 B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 8}
# requests, tokens, beams, items, levels (and a conflict slot), goal
LOADS = [
    (8, 130, 20, 12_101, 4, True, "at least 10 times as fast as generate"),
    (64, 130, 20, 12_101, 4, True, "at most 1.5 × prefill"),
    (8, 1000, 256, 1_000_000, 3, False, "at most 2.0 × prefill and 93 ms"),
    (1, 1000, 256, 1_000_000, 3, False, "at most 25 ms"),
]


def model(shape: dict[str, int]) -> Any:
    config = Qwen3Config(
        vocab_size=VOCABULARY + 1088, tie_word_embeddings=True, max_position_embeddings=8192,
        num_key_value_heads=8, head_dim=128 if GPU else 8, **shape,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(DEVICE):
        torch.set_default_dtype(torch.bfloat16 if GPU else torch.float32)
        made = Qwen3ForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    return made.eval()


def catalogue(items: int, levels: int, slot: bool) -> np.ndarray:
    """Token ids; with ``slot`` a 50th of the items share the other levels with another one."""
    rng = np.random.default_rng(0)
    codes = np.unique(rng.integers(0, SIZE, (items, levels)), axis=0) + VOCABULARY + np.arange(levels) * SIZE
    if not slot:
        return codes
    first = VOCABULARY + levels * SIZE
    twins = codes[::50]
    full = [np.concatenate([some, np.full((len(some), 1), first + n)], axis=1) for n, some in enumerate((codes, twins))]
    return np.concatenate(full)


def wait() -> None:
    if GPU:
        torch.cuda.synchronize()


def timed(run: Callable[[], Any], rounds: int = 5, warm: int = 3) -> float:
    for _ in range(warm):
        run()
    times = []
    for _ in range(rounds):
        wait()
        began = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def generate(whole: Any, codes: np.ndarray, ids: torch.Tensor, beams: int) -> Callable[[], Any]:
    follows: dict[tuple[int, ...], set[int]] = {}
    for code in codes.tolist():
        for level in range(len(code)):
            follows.setdefault(tuple(code[:level]), set()).add(code[level])
    lists = {prefix: sorted(tokens) for prefix, tokens in follows.items()}
    length = ids.shape[1]
    return lambda: whole.generate(
        ids, attention_mask=torch.ones_like(ids), num_beams=beams, num_return_sequences=beams,
        max_new_tokens=codes.shape[1], do_sample=False, pad_token_id=0, eos_token_id=None,
        prefix_allowed_tokens_fn=lambda _, written: lists.get(tuple(written[length:].tolist()), [VOCABULARY]),
    )  # fmt: skip


def counted(run: Callable[[], Any]) -> str:
    """What `torch.profiler` sees of one search."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if GPU else [])]
    with profile(activities=activities) as seen:
        run()
        wait()
    events = {event.key: event for event in seen.key_averages()}

    def total(*names: str) -> int:
        return sum(event.count for key, event in events.items() if key.startswith(names))

    busy = sum(event.self_device_time_total for event in events.values()) / 1e3 if GPU else 0.0
    return (
        f"{total('cudaLaunchKernel', 'cuLaunchKernel')} kernel launches, {total('cudaGraphLaunch')} graph launches, "
        f"{total('cudaStreamSynchronize', 'cudaDeviceSynchronize')} synchronisations, "
        f"{total('aten::item', 'aten::_local_scalar_dense')} items, GPU busy {busy:.1f} ms"
    )


def arms(whole: Any, load: tuple[Any, ...]) -> Iterator[tuple[str, Callable[[], Any], int]]:
    """Name, what is timed, and how often, of every arm of a load."""
    requests, length, beams, items, levels, slot, _ = load
    codes = catalogue(items, levels, slot)
    trie, wrapped = ItemTrie.build(codes), LanguageModel(whole)
    rng = np.random.default_rng(1)
    prompts = rng.integers(0, VOCABULARY, (requests, length)).tolist()
    ids = torch.tensor(prompts, device=DEVICE)

    def prefill() -> tuple[torch.Tensor, torch.Tensor]:
        output = whole.model(input_ids=ids, use_cache=True)
        return output.last_hidden_state, output.last_hidden_state

    print(f"   {wrapped.traits}", flush=True)
    yield "prefill", prefill, 5
    if GPU:
        replays: list[Callable[[], Any]] = []

        def replay() -> Any:
            if not replays:
                replays.append(capture_graph(prefill)[1])
            replays[0]()

        yield "prefill as a CUDA graph", replay, 5
    yield "ours", lambda: search(wrapped, trie, prompts, beams), 5
    wrapped.graphs.clear()

    def without_graph() -> Any:
        wrapped.graphs.clear()  # a bucket that was never seen runs without
        return search(wrapped, trie, prompts, beams, static=True)

    yield "ours, without its graph", without_graph, 3
    wrapped.graphs.clear()
    yield "ours, over the vocabulary", lambda: search(wrapped, trie, prompts, beams, normalisation="vocabulary"), 3
    wrapped.graphs.clear()
    if beams <= 20 and requests <= 8:
        yield "generate, prefix_allowed_tokens_fn", generate(whole, codes, ids, beams), 1


@torch.inference_mode()
def main() -> None:
    print(torch.cuda.get_device_name(0) if GPU else "CPU, tiny", "torch", torch.__version__, flush=True)
    for name, shape in (MODELS if GPU else {"tiny": TINY}).items():
        whole = model(shape)
        size = sum(parameter.numel() for parameter in whole.parameters()) / 1e6
        for load in LOADS if GPU else [(2, 13, 4, 500, 4, True, "to run")]:
            requests, length, beams, items, _, _, goal = load
            print(f"== {name} ({size:.0f} M), {requests} × {length} tokens, {beams} beams, {items:,} items", flush=True)
            if time.perf_counter() - BEGAN > BUDGET:
                print("   left out: the time is up", flush=True)
                continue
            prefills: list[float] = []
            for arm, run, rounds in arms(whole, load):
                try:
                    took = timed(run, rounds, warm=1 if arm.startswith("generate") else 3)
                except Exception as error:
                    print(f"   {arm:<38} failed: {type(error).__name__}: {str(error)[:200]}", flush=True)
                    continue
                if arm.startswith("prefill"):
                    prefills.append(took)
                beside = f"{took / min(prefills):6.2f} × prefill" if prefills else ""
                print(f"   {arm:<38}{took:9.1f} ms {beside}   {counted(run) if arm.startswith('ours') else ''}")
            print(f"   goal: {goal}", flush=True)
        del whole
        if GPU:
            print(f"   peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
            torch.cuda.empty_cache()
    print(f"{time.perf_counter() - BEGAN:.0f} s", flush=True)


if __name__ == "__main__":
    main()
