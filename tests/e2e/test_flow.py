"""The whole flow on a made-up shop of 60 users, as a user runs it: `gream run`, killed, interrupted, finished.

Everything is real but small: LLaMA-Factory trains, Verl reinforces, with Ray, on this machine's CPU.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gream_ext.pipeline.processes import belonging, scratch, sweep
from gream_ext.workspace import Workspace
from tests.support.synthetic import write_synthetic_source

PIPELINE = """
- prepare: {path: "%(source)s", k: 5}
- embed: {encoder: wordllama}
- index build: {levels: 3, codebook_size: 8}
- index report
- corpus align: {epochs: 2, max_rows: 60}
- corpus reason: {epochs: 2, rows: 40, system_prompt: short, most_kept: 4}
- corpus rl: {prompts: 32, valid_users: 8, system_prompt: short}
- base-model: {hidden_size: 32, layers: 2, heads: 2, kv_heads: 1, intermediate_size: 64, vocabulary_size: 600}
- sft:
    overrides: {num_train_epochs: 2, gream_curriculum_epochs: 1, per_device_train_batch_size: 8, logging_steps: 1,
                save_steps: 10, preprocessing_num_workers: 1}
- baselines
- evaluate: {model: sft, mode: direct}
- evaluate: {model: sft, mode: direct, exclude_seen: true}
- evaluate: {model: sft, mode: reason, n: 10, max_new_tokens: 64}
- evaluate: {model: sft, mode: reason, split: valid, n: 10, max_new_tokens: 64}
- rl:
    overrides:
      algorithm.filter_groups.enable: false
      data.train_batch_size: 8
      data.max_response_length: 64
      actor_rollout_ref.actor.ppo_mini_batch_size: 8
      actor_rollout_ref.rollout.n: 4
      trainer.total_training_steps: 2
      trainer.save_freq: 1
      trainer.test_freq: -1
      trainer.val_before_train: false
- evaluate: {model: srpo, mode: direct}
- evaluate: {model: srpo, mode: direct, exclude_seen: true}
- evaluate: {model: srpo, mode: reason, n: 10, max_new_tokens: 64}
- evaluate: {model: srpo, mode: reason, split: valid, n: 10, max_new_tokens: 64}
- report: {users: 2}
"""
LONGEST = 420.0
"""Seconds that a phase may take on a slow and busy machine."""


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[tuple[Workspace, Callable[[], "subprocess.Popen[str]"]]]:
    """A workspace in a path with a space, and what starts ``gream run`` in it."""
    source = write_synthetic_source(tmp_path / "a shop", users=60, items=80)
    pipeline = tmp_path / "flow.yaml"
    pipeline.write_text(PIPELINE % {"source": source})
    workspace = Workspace(tmp_path / "a run")
    started = []

    def start() -> "subprocess.Popen[str]":
        command = [
            str(Path(sys.executable).with_name("gream")),
            "run",
            str(pipeline),
            "--workspace",
            str(workspace.root),
        ]
        with (tmp_path / "output.txt").open("a") as output:
            process = subprocess.Popen(
                command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True
            )
        started.append(process)
        return process

    yield workspace, start
    for process in started:
        if process.poll() is None:
            process.kill()
    sweep(workspace)


def wait_for(process: "subprocess.Popen[str]", condition: Callable[[], bool], output: Path) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        assert process.poll() is None, "it ended too early:\n" + output.read_text()[-3000:]
        assert time.monotonic() < end, "it took too long:\n" + output.read_text()[-3000:]
        time.sleep(0.1)


@pytest.mark.timeout(1500)
def test_the_whole_flow_killed_interrupted_and_finished(
    flow: tuple[Workspace, Callable[[], "subprocess.Popen[str]"]], tmp_path: Path
) -> None:
    workspace, start = flow
    output = tmp_path / "output.txt"

    # Killed in the middle of the supervised stage: LLaMA-Factory runs on without its parent.
    process = start()
    training = workspace.path("sft.training")
    wait_for(process, lambda: any(training.glob("checkpoint-*/trainer_state.json")), output)
    process.kill()
    process.wait()
    records = {path.name: path.stat().st_mtime_ns for path in workspace.path("stages").iterdir()}
    assert "base-model.json" in records and "sft.json" not in records

    # Goes on from there; interrupted (Ctrl-C) while Ray and its workers run.
    process = start()
    wait_for(process, lambda: (scratch(workspace) / "ray").exists(), output)
    assert "Resuming training from" in workspace.log("sft").read_text()
    assert len(belonging(workspace)) > 1
    process.send_signal(signal.SIGINT)
    assert process.wait(600) == 130
    assert not belonging(workspace) and not scratch(workspace).exists()

    # Finished. What was done in the first run was not done again.
    process = start()
    assert process.wait(LONGEST) == 0, output.read_text()[-3000:]
    assert not belonging(workspace)
    again = {path.name: path.stat().st_mtime_ns for path in workspace.path("stages").iterdir()}
    assert records.items() <= again.items() and len(again) == 20

    report = json.loads(workspace.path("report.json").read_text())
    assert report["dataset"]["users"] == 60
    for model in ("sft", "srpo"):
        assert 0 <= report[model]["direct"]["recall@10"] <= 1
        assert 0 <= report[model]["reason"]["pass@10"] <= 1
        assert 0 <= report["excluding_seen"][model]["direct"]["recall@10"] <= 1
    assert {"popular", "markov"} <= report["baselines"].keys()
    assert report["rl"]["steps"] == 2
    assert len(report["stages"]) >= 19
    assert "<html" in workspace.path("report.html").read_text()
    metrics = workspace.path("rl", "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == [1, 2]

    # A fourth run does nothing and says so, and still shows the results.
    before = output.stat().st_size
    process = start()
    assert process.wait(LONGEST) == 0
    said = output.read_bytes()[before:].decode()
    assert said.count("up to date") == 20
    assert "ecall@10" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a run", "a shop", "flow.yaml", "output.txt"], (
        "nothing elsewhere"
    )
