"""One arm of the decoding benchmark in a process of its own, so that its memory can be told.

``python -m tests.benchmarks.decode_child ARM FOLDER``: loads what `decode_setup.make` wrote, runs once, and then once
for every line on its standard input. After each it prints one JSON line: seconds, items, scores, memory.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from gream_ext.decoding.trie import ItemTrie
from tests.benchmarks.decode_setup import BEAMS, END, PAD, allowed_by_hash

Run = Callable[[], tuple[np.ndarray, np.ndarray] | None]


class Arms:
    """Each method loads what it needs and returns what is timed: items and scores [prompts, beams], or nothing."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.trie = ItemTrie.load(folder / "trie.safetensors")
        self.prompts: list[list[int]] = json.loads((folder / "prompts.json").read_text())
        self.before: Callable[[], Any] = lambda: None

    def model(self) -> Any:
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self.folder / "model", dtype=torch.float32).eval()
        with torch.inference_mode():
            model(input_ids=torch.tensor([self.prompts[0][:3]]))  # weights count as loaded once they were read
        return model

    def prefill(self) -> Run:
        """Hidden states of the prompts, with the keys and values that decoding would go on from."""
        inner, ids = self.model().model, torch.tensor(self.prompts)

        def run() -> None:
            with torch.inference_mode():
                inner(input_ids=ids, use_cache=True)

        return run

    def catalogue(self) -> Run:
        return self._ours("catalogue")

    def vocabulary(self) -> Run:
        return self._ours("vocabulary")

    def prefix_fn(self) -> Run:
        ids = self.trie.identifiers(torch.arange(len(self.trie))).numpy()
        return self._generate(prefix_allowed_tokens_fn=allowed_by_hash(ids, len(self.prompts[0])))

    def processor(self) -> Run:
        from transformers import LogitsProcessorList

        from gream_ext.decoding.processors import ItemProcessor

        ours = ItemProcessor(self.trie, len(self.prompts[0]), END)
        return self._generate(logits_processor=LogitsProcessorList([ours]))

    def unconstrained(self) -> Run:
        return self._generate()

    def sglang(self) -> Run:
        from transformers import AutoTokenizer

        from gream_ext.inference.engines.sglang import SGLangEngine

        engine = SGLangEngine.launch(
            self.folder / "model",
            AutoTokenizer.from_pretrained(self.folder / "model"),
            self.trie,
            device="cpu",
            dtype="float32",
            max_total_tokens=8192,
            watchdog_timeout=3600,
            sleep_on_idle=True,
            log_level="error",
        )
        # Its prefix cache would answer the same prompts without computing them again.
        self.before = engine.transport._engine.flush_cache
        return lambda: _table(engine.recommend(self.prompts, BEAMS))

    def _ours(self, normalisation: Any) -> Run:
        from gream_ext.decoding.beam import search
        from gream_ext.decoding.language_model import LanguageModel

        model = LanguageModel(self.model())
        return lambda: _table(search(model, self.trie, self.prompts, BEAMS, normalisation=normalisation))

    def _generate(self, **constraint: Any) -> Run:
        model, ids = self.model(), torch.tensor(self.prompts)
        # Without a constraint a beam might end before its time.
        asked = {"min_new_tokens": self.trie.levels, "max_new_tokens": self.trie.levels, "eos_token_id": END}
        if constraint:
            del asked["min_new_tokens"]

        def run() -> tuple[np.ndarray, np.ndarray] | None:
            with torch.inference_mode():
                output = model.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    num_beams=BEAMS,
                    num_return_sequences=BEAMS,
                    do_sample=False,
                    length_penalty=0.0,
                    pad_token_id=PAD,
                    return_dict_in_generate=True,
                    output_scores=True,
                    **asked,
                    **constraint,
                )
            if not constraint:
                return None
            rows = self.trie.row_of(self.trie.walk(output.sequences[:, ids.shape[1] :])).numpy()
            return rows.reshape(len(ids), -1), output.sequences_scores.numpy().reshape(len(ids), -1)

        return run


def _table(rankings: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([one.rows for one in rankings]), np.stack([one.scores for one in rankings])


def family() -> list[psutil.Process]:
    """This process and those it started."""
    return [psutil.Process(), *psutil.Process().children(recursive=True)]


def processor_seconds() -> float:
    """What these have used of the processors: on a busy machine that says more than the clock."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in family()))


def memory(what: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (the most since `forget_peak`) of the `family`, in bytes."""
    total = 0
    for process in family():
        text = Path(f"/proc/{process.pid}/status").read_text()
        line = next((line for line in text.splitlines() if line.startswith(f"{what}:")), "x 0")
        total += int(line.split()[1]) * 1024
    return total


def forget_peak() -> None:
    for process in family():
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def main() -> None:
    arm, folder = sys.argv[1:]
    arms = Arms(Path(folder))
    run: Run = getattr(arms, arm)()
    loaded = memory("VmRSS")
    while True:
        arms.before()
        forget_peak()
        began, processor = time.perf_counter(), processor_seconds()
        found = run()
        seconds, processor = time.perf_counter() - began, processor_seconds() - processor
        said: dict[str, Any] = {"seconds": seconds, "processor": processor, "loaded": loaded, "peak": memory("VmHWM")}
        if found is not None:
            said |= {"items": found[0].tolist(), "scores": found[1].tolist()}
        print("RESULT" + json.dumps(said), flush=True)
        if not sys.stdin.readline():
            return


if __name__ == "__main__":
    main()
