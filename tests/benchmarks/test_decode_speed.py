"""Direct mode beside what one would use instead: ``pytest tests/benchmarks -k decode -s``.

Every arm is a process of its own and they take turns, so that a busy machine treats them alike; medians count, by the
clock and by what the processors were used (processes that SGLang started included).
``GREAM_BENCHMARK_ROUNDS`` (5) and ``GREAM_BENCHMARK_THREADS`` (2). SGLang takes part where ``.venv-sglang`` is, or
the Python that ``GREAM_SGLANG_PYTHON`` names.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from tests.benchmarks.decode_setup import BEAMS, LENGTH, PROMPTS, make

ROOT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("GREAM_BENCHMARK_ROUNDS", 5))
THREADS = os.environ.get("GREAM_BENCHMARK_THREADS", "2")
SGLANG = Path(os.environ.get("GREAM_SGLANG_PYTHON", ROOT / ".venv-sglang" / "bin" / "python"))
NAMES = {
    "catalogue": "gream_ext, over the catalogue",
    "vocabulary": "gream_ext, over the vocabulary",
    "prefill": "the model's prefill alone",
    "prefix_fn": "(a) generate, prefix_allowed_tokens_fn",
    "processor": "(b) generate, our ItemProcessor",
    "unconstrained": "generate, no constraint",
    "sglang": "(c) SGLang with our plug-in",
}


class Child:
    """An arm that waits for its turn; ``first`` is what it said after its first, untimed run."""

    def __init__(self, arm: str, folder: Path):
        self.arm = arm
        python, environment = sys.executable, {**os.environ, "OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS}
        if arm == "sglang":
            python = str(SGLANG)
            environment |= {"PYTHONPATH": str(ROOT / "tests" / "support" / "sglang_cpu"), "SGLANG_USE_CPU_ENGINE": "1"}
        self.log = folder / f"{arm}.log"
        self.process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.decode_child", arm, str(folder)],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
        )
        self.first = self.answer()
        self.said: list[dict] = []

    def answer(self) -> dict:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("RESULT"):
                return json.loads(line.removeprefix("RESULT"))
        raise RuntimeError(f"{self.arm} ended:\n{self.log.read_text()[-3000:]}")

    def turn(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.said.append(self.answer())

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def seconds(self, what: str = "seconds") -> float:
        """Median of the clock, or of the ``processor``."""
        return median(one[what] for one in self.said)

    @property
    def peak(self) -> int:
        return max(one["peak"] for one in [self.first, *self.said])


@pytest.mark.timeout(3600)
def test_decode_speed(tmp_path):
    """20 times (a), 7 times (b), no slower than (c), twice the prefill; only what does not hang on the clock fails."""
    about = make(tmp_path)
    names = [name for name in NAMES if name != "sglang" or SGLANG.exists()]
    arms: dict[str, Child] = {}
    try:
        for name in names:
            arms[name] = Child(name, tmp_path)
        for _ in range(ROUNDS):
            for arm in arms.values():
                arm.turn()
    finally:
        for arm in arms.values():
            arm.end()
    show(
        arms, f"{about}; {PROMPTS} prompts of {LENGTH} tokens, {BEAMS} beams, float32, {THREADS} threads, {ROUNDS} runs"
    )
    same_items(arms)


def show(arms: dict[str, Child], about: str) -> None:
    print(f"\n{about}")
    heads = ("clock s", "of ours", "of prefill", "processor s", "of ours", "of prefill", "peak MB", "above load")
    print(f"{'':<42}" + "".join(f"{head:>{len(head) + 2}}" for head in heads))
    for name, arm in arms.items():
        cells = []
        for what in ("seconds", "processor"):
            mine = arm.seconds(what)
            cells += [f"{mine:.3f}", *(f"{mine / arms[other].seconds(what):.2f}" for other in ("catalogue", "prefill"))]
        cells += [f"{arm.peak / 1e6:.0f}", f"{(arm.peak - arm.first['loaded']) / 1e6:.0f}"]
        print(f"{NAMES[name]:<42}" + "".join(f"{c:>{len(head) + 2}}" for c, head in zip(cells, heads, strict=True)))
    ratios = [
        arms["processor"].seconds(what) / arms["unconstrained"].seconds(what) for what in ("seconds", "processor")
    ]
    print(f"(b) beside no constraint: {ratios[0]:.3f} by the clock, {ratios[1]:.3f} by the processor")


def same_items(arms: dict[str, Child]) -> None:
    """(a), (b) and ours over the vocabulary agree, SGLang and ours over the catalogue too."""
    for one, other in (("vocabulary", "prefix_fn"), ("vocabulary", "processor"), ("catalogue", "sglang")):
        if other not in arms:
            continue
        items = [np.array(arms[name].first["items"]) for name in (one, other)]
        scores = [np.array(arms[name].first["scores"]) for name in (one, other)]
        same, difference = float((items[0] == items[1]).mean()), float(np.abs(scores[0] - scores[1]).max())
        print(f"{NAMES[one]} and {NAMES[other]}: {same:.1%} of places the same item, scores within {difference:.1e}")
        assert [set(row) for row in items[0].tolist()] == [set(row) for row in items[1].tolist()]
        np.testing.assert_allclose(*scores, atol=1e-3)
