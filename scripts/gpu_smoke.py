#!/usr/bin/env python3
"""Does everything work on this machine's GPU? About ten minutes: `make gpu-smoke`.

A made-up shop of 200 users and 120 items goes the whole way with a model of two million weights: SFT by
LLaMA-Factory with the curriculum, SRPO by Verl with SGLang's rollout, direct and reasoning mode by transformers and by
SGLang, whose recommendations must agree. The figures mean nothing; that each step ends well does.

The frameworks' environments are those of docs/installation.md: SFT_VENV (.venv-sft), RL_VENV (.venv-rl) and SERVE_VENV
(.venv-serve); one that is not there is looked for under .venv, SERVE_VENV also under .venv-sglang.

Without a GPU the same steps run as far as they go: SFT and both modes on the CPU, SRPO with the CPU recipe
(transformers in place of SGLang as the rollout), SGLang with the stand-ins of tests/support/sglang_cpu where
.venv-sglang exists. What then is only composed, and not run, is the GPU recipe of SRPO.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAKE = """
import sys, numpy as np, polars as pl
from tests.support.synthetic import make_workspace
workspace = make_workspace(sys.argv[1], users=200, items=120)
vectors = np.random.default_rng(0).standard_normal((len(pl.read_parquet(workspace.items)), 16), dtype=np.float32)
np.save(workspace.embeddings, vectors)  # in place of an encoder, which need not be here
"""
COMPARE = """
import sys, polars as pl
one, other = (pl.read_parquet(path)["recommendations"].to_list() for path in sys.argv[1:])
same = sum(a[:5] == b[:5] for a, b in zip(one, other, strict=True)) / len(one)
print(f"the first five items agree for {same:.0%} of {len(one)} users")
sys.exit(same < 0.8)  # bfloat16 and other kernels may exchange items of nearly equal score
"""


@dataclass(frozen=True)
class Step:
    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    skipped: str = ""
    """Why it is not run."""


def plan(workspace: Path, gpu: bool, sft: Path, rl: Path, serve: Path | None) -> list[Step]:
    """All steps in order. ``sft``, ``rl`` and ``serve`` are interpreters; a step knows why it would be skipped."""
    place = ["--workspace", str(workspace)]
    device = "cuda" if gpu else "cpu"

    def gream(python: Path, *words: str) -> list[str]:
        return [str(python), "-m", "gream_ext.cli", *words, *place]

    sizes = {
        "trainer.n_gpus_per_node": 1,
        "trainer.total_training_steps": 2,
        "trainer.save_freq": 2,
        "trainer.test_freq": -1,
        "trainer.val_before_train": "false",
        "data.train_batch_size": 8,
        "data.max_prompt_length": 512,
        "data.max_response_length": 256,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 8,
        "actor_rollout_ref.rollout.n": 4,
    }
    keys = [f"{name}={value}" for name, value in sizes.items()]
    on_gpu = ["actor_rollout_ref.rollout.gpu_memory_utilization=0.4"]
    compose = [str(rl), "-m", "verl.trainer.main_ppo", "+gream=srpo", f"workspace={workspace}", *keys, *on_gpu]
    recipes = ["--recipes", "srpo", *([] if gpu else ["cpu"])]
    train = ["use_cpu=false", "bf16=true"] if gpu else ["use_cpu=true"]
    one = ["evaluate", "--model", "srpo", "--limit", "32", "--force"]
    direct = [*one, "--mode", "direct", "--cutoffs", "1", "5", "10"]
    reason = [*one, "--mode", "reason", "--n", "4", "--cutoffs", "1", "4", "--max-new-tokens", "256", "--limit", "8"]
    folder = workspace / "evaluation" / "srpo"
    table, kept = folder / "direct-test-first32.parquet", folder / "transformers.parquet"
    prompts = ["--prompts", "64", "--valid-users", "16", "--system-prompt", "short", "--reason-share", "1.0"]
    small = ["--hidden-size", "256", "--heads", "4", "--kv-heads", "2", "--layers", "2", "--vocabulary-size", "600"]
    aside = [str(sft), "-c", "import shutil, sys; shutil.copy(*sys.argv[1:])", str(table), str(kept)]
    sglang = {} if gpu else {"PYTHONPATH": str(ROOT / "tests/support/sglang_cpu"), "SGLANG_USE_CPU_ENGINE": "1"}
    absent = "" if serve else "no environment with SGLang: docs/sglang.md"
    engine = ["--engine", "sglang", "--device", device]
    python = serve or sft
    return [
        Step("doctor, SFT", [str(sft), "-m", "gream_ext.cli", "doctor"]),
        Step("doctor, RL", [str(rl), "-m", "gream_ext.cli", "doctor"]),
        Step("a made-up shop", [str(sft), "-c", MAKE, str(workspace)]),
        Step("alignment data", gream(sft, "corpus", "align", "--max-rows", "400", "--mixture", "continuation=2")),
        Step("reasoning data", gream(sft, "corpus", "reason", "--rows", "300", "--system-prompt", "short")),
        Step("RL prompts", gream(sft, "corpus", "rl", *prompts)),
        Step("base model", gream(sft, "base-model", *small)),
        Step("SFT with the curriculum", gream(sft, "sft", "--overrides", "save_steps=1000", *train)),
        Step("SRPO with SGLang rollout: composition", [*compose, "--cfg", "job", "--resolve"]),
        Step("SRPO with SGLang rollout" if gpu else "SRPO with the CPU recipe",
             gream(rl, "rl", *recipes, "--overrides", *keys, *(on_gpu if gpu else ()))),
        Step("reasoning mode, transformers", gream(sft, *reason, "--device", device)),
        Step("direct mode, transformers", gream(sft, *direct, "--device", device)),
        Step("its table aside", aside),
        Step("reasoning mode, SGLang", gream(python, *reason, *engine), sglang, absent),
        Step("direct mode, SGLang", gream(python, *direct, *engine), sglang, absent),
        Step("the engines agree", [str(sft), "-c", COMPARE, str(kept), str(table)], skipped=absent),
    ]  # fmt: skip


def interpreter(*folders: str) -> Path | None:
    """The interpreter of the first environment that is there."""
    found = (Path(folder) if Path(folder).is_absolute() else ROOT / folder for folder in folders if folder)
    return next((folder / "bin" / "python" for folder in found if (folder / "bin" / "python").exists()), None)


def has_gpu(python: Path) -> bool:
    code = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([str(python), "-c", code], check=False, capture_output=True).returncode == 0


def run(step: Step, log: Path) -> bool:
    """Run a step with its output in the log; whether it ended well."""
    with log.open("a", encoding="utf-8") as file:
        print(f"\n== {step.name}\n$ {shlex.join(step.command)}", file=file, flush=True)
        environment = {"OMP_NUM_THREADS": "1", **os.environ, **step.environment}
        path = os.pathsep.join([str(Path(step.command[0]).parent), environment.get("PATH", os.defpath)])
        ended = subprocess.run(step.command, cwd=ROOT, env={**environment, "PATH": path}, check=False,
                               stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)  # fmt: skip
    return ended.returncode == 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the plan; 0 when every step that ran ended well, 1 at the first that did not, 2 without an environment."""
    parser = argparse.ArgumentParser(description="A short run of everything on this machine's GPU.")
    parser.add_argument("--workspace", type=Path, default=ROOT / "runs" / "gpu-smoke")
    parser.add_argument("--cpu", action="store_true", help="as if there were no GPU")
    parser.add_argument("--plan", action="store_true", help="only print the commands")
    settings = parser.parse_args(words)
    sft = interpreter(os.environ.get("SFT_VENV", ".venv-sft"), ".venv")
    rl = interpreter(os.environ.get("RL_VENV", ".venv-rl"), ".venv")
    serve = interpreter(os.environ.get("SERVE_VENV", ".venv-serve"), ".venv-sglang")
    if sft is None or rl is None:
        print("gpu-smoke: no environment for SFT or RL: docs/installation.md says how they are made", file=sys.stderr)
        return 2
    gpu = not settings.cpu and has_gpu(sft)
    steps = plan(settings.workspace.resolve(), gpu, sft, rl, serve)
    if settings.plan:
        print("\n".join(f"# {step.name}\n{shlex.join(step.command)}" for step in steps))
        return 0
    shutil.rmtree(settings.workspace, ignore_errors=True)
    settings.workspace.mkdir(parents=True)
    log = settings.workspace / "gpu-smoke.log"
    print(f"gpu-smoke: on {'a GPU' if gpu else 'the CPU'}, log in {log}", flush=True)
    for step in steps:
        if step.skipped:
            print(f"  skipped  {step.name}: {step.skipped}", flush=True)
            continue
        begin = time.monotonic()
        good = run(step, log)
        print(f"  {'ok' if good else 'FAILED':<7}{time.monotonic() - begin:5.0f} s  {step.name}", flush=True)
        if not good:
            tail = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()][
                -12:
            ]
            print("\n".join(f"    {line[:200]}" for line in tail))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
