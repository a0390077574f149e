"""Verl's trainer with its own SGLang rollout, on a CPU: one whole run of the recipe, with Verl's launcher.

Verl 0.9.1 is made for SGLang 0.5.12; what differs is bridged by tests/support/verl_sglang, which is test support only.
"""

import os
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="needs Verl beside SGLang: the environment of `make test-sglang`")

from gream_ext.plugins.rl_metrics import read
from tests.support.verl_run import make_workspace, running, wait

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]
SERVER = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "disable_overlap_schedule": "true",
    "page_size": 1,
    "max_total_tokens": 16_384,
    "enable_memory_saver": "false",
    "watchdog_timeout": 3600,
    "sleep_on_idle": "true",
}
OPTIONS = {
    "actor_rollout_ref.rollout.name": "sglang",
    "actor_rollout_ref.rollout.dtype": "float32",
    **{f"+actor_rollout_ref.rollout.engine_kwargs.sglang.{name}": value for name, value in SERVER.items()},
    "actor_rollout_ref.rollout.temperature": 0.5,  # the recipe's
    "trainer.v1.sampler.sampler_kwargs.max_refills": 2.0,  # 4 prompts, and 8 more where they have no signal
    "trainer.total_training_steps": 2,
}
VARIABLES = {
    "VERL_USE_EXTERNAL_MODULES": "tests.support.verl_sglang",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support" / "sglang_cpu")]),
    "SGLANG_USE_CPU_ENGINE": "1",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """What two steps have left."""
    workspace = make_workspace(tmp_path_factory.mktemp("reinforcement run"))
    with running(workspace, variables=VARIABLES, **OPTIONS) as process:
        wait(workspace, process, 1500)
    return workspace


def test_every_step_has_the_metrics_of_the_filter(workspace):
    """SGLang's samples have no seed, but there is signal in every step.

    As the policy begins, a prompt's 4 rollouts all match as many levels with a chance of 0.14, or 0.26 for the worst
    prompt. A step has up to 12 prompts: all are without signal once in 10^10 steps, and the 12 worst once in 10^7.
    """
    steps = read(workspace / "rl" / "metrics.jsonl")
    assert [step["step"] for step in steps] == [1, 2]
    for step in steps:
        assert step["gream/rollouts/all"] >= 16
        assert 0 < step["gream/rollouts/well_formed"] <= 1
        assert step["gream/groups/kept"] > 0
        assert step["gream/srpo/sigma"] >= 0
        assert step["actor/grad_norm"] > 0


def test_log_probs_are_those_of_the_actor_in_every_step(workspace):
    """SGLang starts with random weights: those of the actor have reached it before the first step, and what the first
    step made of them before the second."""
    for step in read(workspace / "rl" / "metrics.jsonl"):
        assert step["training/rollout_probs_diff_max"] < 1e-5
        assert abs(step["rollout_corr/k3_kl"]) < 1e-7
