"""verl's unmodified launcher with our recipes on a CPU: trains, is killed, goes on, and is merged by verl's merger."""

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from gream_ext.plugins.rl_metrics import read
from tests.support.processes import kill
from tests.support.tiny_policy import write_index, write_prompts
from tests.support.verl_run import log, make_workspace, running, wait

pytest.importorskip("verl")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder whose name has a space in it, with a policy and prompts."""
    return make_workspace(tmp_path_factory.mktemp("reinforcement run"))


@dataclass(frozen=True)
class Trained:
    """What two workers made in three steps, killed once in between."""

    workspace: Path
    done: int
    """Steps done when they were killed."""


@pytest.fixture(scope="module")
def trained(workspace):
    """Kill -9 after a checkpoint; the same command goes on from it."""
    options = {"trainer.total_training_steps": 3, "trainer.n_gpus_per_node": 2}
    latest = workspace / "rl" / "checkpoints" / "latest_checkpointed_iteration.txt"
    with running(workspace, **options) as process:
        while not (latest.exists() and latest.read_text()):  # Verl opens it before it writes
            assert process.poll() is None, log(workspace)[-5000:]
            time.sleep(0.2)
        kill(process)
    done = int(latest.read_text())
    with running(workspace, **options) as process:
        wait(workspace, process)
    return Trained(workspace, done)


def test_two_workers_train_are_killed_and_go_on(trained):
    """They go on from the checkpoint, and the weights they train reach the rollout."""
    folder = trained.workspace / "rl"
    assert 1 <= trained.done < 3
    assert (folder / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == "3"
    metrics = read(folder / "metrics.jsonl")
    assert [line["step"] for line in metrics][-1] == 3
    resumed = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert resumed == list(range(trained.done + 1, 4))
    for line in metrics:
        assert line["gream/rollouts/all"] >= 16
        assert 0 < line["gream/rollouts/well_formed"] <= 1
        assert line["gream/srpo/sigma"] >= 0
        # Of weights that had not reached the rollout these would be others, at this learning rate by far.
        assert line["training/rollout_probs_diff_max"] < 1e-3
        # The mean of about d²/2 over at most 128 tokens: no log-prob is off by d = 1e-3.
        assert line["rollout_corr/k3_kl"] < 3e-9
        assert line["actor/grad_norm"] > 0
        assert line["actor/kl_loss"] >= 0


def test_merged_weights_load_in_transformers(trained):
    """verl's own merger makes a Hugging Face model of the checkpoint; training has changed it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target, sft = trained.workspace / "srpo", trained.workspace / "sft"
    actor = trained.workspace / "rl" / "checkpoints" / "global_step_3" / "actor"
    merger = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    subprocess.run([*merger, "--local_dir", str(actor), "--target_dir", str(target)], check=True, timeout=300)
    merged = AutoModelForCausalLM.from_pretrained(target).state_dict()
    before = AutoModelForCausalLM.from_pretrained(sft).state_dict()
    assert merged.keys() == before.keys()
    assert any((merged[name] - before[name]).abs().max() > 1e-4 for name in merged)
    assert AutoTokenizer.from_pretrained(target).get_vocab() == AutoTokenizer.from_pretrained(sft).get_vocab()


def test_groups_of_different_items_with_the_true_one_among_them(workspace, tmp_path):
    """Two workers share the members of a group: no group is without a signal, and anchors are those that lack a hit."""
    for name in ("sft", "rl"):
        (tmp_path / name).mkdir()
    for path in (workspace / "sft").iterdir():
        (tmp_path / "sft" / path.name).symlink_to(path)
    for name in ("train", "valid"):
        (tmp_path / "rl" / f"{name}.parquet").symlink_to(workspace / "rl" / f"{name}.parquet")
    write_index(tmp_path / "item_index.parquet")
    options = {
        "trainer.total_training_steps": 2,
        "trainer.n_gpus_per_node": 2,
        "actor_rollout_ref.rollout.n": 3,
        "trainer.save_freq": -1,
    }
    with running(tmp_path, recipes="srpo,cpu,distinct,anchored", **options) as process:
        wait(tmp_path, process)
    metrics = read(tmp_path / "rl" / "metrics.jsonl")
    assert len(metrics) == 2
    for line in metrics:
        assert line["gream/groups/kept"] == 4
        assert line["gream/groups/refills"] == 0
        assert line["gream/rollouts/well_formed"] == 1
        # Three of the eight items: about five groups in eight lack the true one, and are given it.
        anchors, right = line.get("gream/anchors/all", 0), line.get("gream/levels/3", 0) * line["gream/rollouts/all"]
        assert anchors + round(right) == 4
        assert line["gream/rollouts/all"] == 12 - anchors
        assert line["gream/srpo/rho"] <= (4 - anchors) / 4
        assert line["training/rollout_probs_diff_max"] < 1e-3
        assert line["actor/grad_norm"] > 0
    assert sum(line.get("gream/anchors/all", 0) for line in metrics) > 0


def test_every_rollout_wrong_for_the_first_steps(workspace, tmp_path):
    """Two steps in which nothing is well-formed, and no group has signal, are skipped and leave the policy as it was,
    weight decay or not; the third, on other prompts, trains. As on GPUs verl computes the rollouts' log-probs anew,
    and all that it makes of both.

    Run by an interpreter whose path has a space in it, as a user's home may.
    """
    import torch

    (tmp_path / "an environment").symlink_to(sys.prefix)
    python = tmp_path / "an environment" / "bin" / "python"
    (tmp_path / "rl").mkdir()
    (tmp_path / "sft").symlink_to(workspace / "sft")
    # A step asks for four prompts and, at most, for four others: in the third two of eight are of use.
    write_prompts(tmp_path / "rl" / "train.parquet", 48, wrong=22)
    (tmp_path / "rl" / "valid.parquet").symlink_to(workspace / "rl" / "valid.parquet")
    options = {
        "data.shuffle": "false",
        "algorithm.rollout_correction.bypass_mode": "false",
        "trainer.total_training_steps": 3,
        "trainer.v1.sampler.sampler_kwargs.max_refills": 1,
        "trainer.v1.sampler.sampler_kwargs.rescale": "true",
        "actor_rollout_ref.actor.calculate_entropy": "true",
    }
    with running(tmp_path, python=python, **options) as process:
        wait(tmp_path, process)
    *wrong, last = read(tmp_path / "rl" / "metrics.jsonl")
    assert len(wrong) == 2
    for line in wrong:
        assert line["gream/groups/kept"] == 0
        assert line["gream/groups/evicted_same_at_0"] == 8
        assert line["gream/groups/refills"] == 4
        assert "actor/grad_norm" not in line  # nothing was updated
        assert line["rollout_corr/k3_kl"] < 3e-9
        assert all(math.isfinite(value) for value in line.values())
    said = log(tmp_path)
    assert said.count("step skipped, none of 8 groups") == 2
    for repeated in ("Continuous Token builder is registered", "target_num_threads"):
        assert said.count(repeated) <= 1
    assert 0 < last["gream/groups/kept"] <= 2
    assert last["actor/grad_norm"] > 0
    # The one is made by verl's loss in the workers, the other by its trainer, over the rollouts alone.
    assert last["actor/entropy_loss"] == pytest.approx(last["actor/entropy"], rel=1e-4)
    checkpoint = tmp_path / "rl" / "checkpoints" / "global_step_2" / "actor" / "model_world_size_1_rank_0.pt"
    weights = torch.load(checkpoint, weights_only=False)
    from transformers import AutoModelForCausalLM

    for name, tensor in AutoModelForCausalLM.from_pretrained(workspace / "sft").state_dict().items():
        trained = weights[name].full_tensor() if hasattr(weights[name], "full_tensor") else weights[name]
        assert torch.equal(trained, tensor), name
