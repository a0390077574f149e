"""Verl's launcher with our recipes, as the tests start and end it."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.processes import kill
from tests.support.tiny_policy import write_policy, write_prompts

SMALL = {
    "data.train_batch_size": 4,
    "data.max_prompt_length": 32,
    "data.max_response_length": 8,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
    "actor_rollout_ref.actor.optim.lr": 0.001,
    "actor_rollout_ref.rollout.n": 4,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "algorithm.rollout_correction.bypass_mode": "false",  # the actor computes the rollouts' log-probs anew
    "trainer.val_before_train": "false",
    "trainer.test_freq": -1,
    "trainer.save_freq": 1,
}


def make_workspace(root: Path) -> Path:
    """A policy and prompts, as far as training needs a workspace."""
    write_policy(root / "sft")
    write_prompts(root / "rl" / "train.parquet", 64)
    write_prompts(root / "rl" / "valid.parquet", 8, seed=1)
    return root


def start(
    workspace: Path,
    python: str | Path = sys.executable,
    variables: Mapping[str, str] | None = None,
    recipes: str = "srpo,cpu",
    **overrides: Any,
) -> subprocess.Popen:
    arguments = [f"{key}={value}" for key, value in {"workspace": f"'{workspace}'", **SMALL, **overrides}.items()]
    command = [str(python), "-m", "verl.trainer.main_ppo", f"+gream=[{recipes}]", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ADDRESS": "local", "RAY_DEDUP_LOGS": "0"}
    with (workspace / "log.txt").open("w") as log:
        return subprocess.Popen(
            command, cwd=workspace, env={**environment, **(variables or {})}, stdout=log, stderr=subprocess.STDOUT
        )


@contextlib.contextmanager
def running(workspace: Path, **options: Any) -> Iterator[subprocess.Popen]:
    """A launcher that is killed at the end with what it has started: Ray's processes would outlive it."""
    process = start(workspace, **options)
    try:
        yield process
    finally:
        kill(process)


def log(workspace: Path) -> str:
    return (workspace / "log.txt").read_text(errors="replace")


def wait(workspace: Path, process: subprocess.Popen, seconds: float = 400) -> None:
    assert process.wait(seconds) == 0, log(workspace)[-5000:]
