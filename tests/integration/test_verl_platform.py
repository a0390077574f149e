"""The CPU platform: there for who names it, in nobody's way."""

import os
import subprocess
import sys

import pytest
import torch

pytest.importorskip("verl")

from gream_ext.plugins.verl.cpu.platform import CpuPlatform

pytestmark = pytest.mark.integration


def run(code, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_is_not_taken_unless_asked_for():
    """Installed and not used, verl has its own platform, process group, engines and rollouts."""
    code = """
import verl
from verl.plugin.platform import get_platform
from verl.utils import distributed
from verl.workers.rollout.replica import RolloutReplicaRegistry
print(get_platform().device_name, hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"))
print("transformers" in RolloutReplicaRegistry._registry)
"""
    assert run(code, VERL_PLATFORM="") == ["cuda", "False", "False"]


def test_is_taken_when_asked_for():
    code = """
import verl
from verl.plugin.platform import get_platform
from verl.utils import distributed
from verl.workers.rollout.replica import RolloutReplicaRegistry
from verl.workers.rollout.base import get_rollout_class
print(get_platform().device_name, hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"))
print(RolloutReplicaRegistry.get("transformers").__name__, get_rollout_class("transformers").__name__)
"""
    assert run(code, VERL_PLATFORM="cpu") == ["cpu", "True", "TransformersReplica", "TransformersRollout"]


def test_is_never_detected():
    assert CpuPlatform().is_platform_available(use_smi_check=True) is False


def test_answers_what_verl_asks():
    platform = CpuPlatform()
    module = platform.device_module
    assert torch.zeros(1).to(platform.current_device()).device.type == "cpu"
    assert module.get_device_name() == "CPU"
    assert module.is_available() is False
    assert 0 < module.max_memory_allocated() < module.mem_get_info()[1]
    module.empty_cache()
    state = module.get_rng_state()
    first = torch.rand(3)
    module.set_rng_state(state)
    assert torch.equal(first, torch.rand(3))
    assert platform.ray_resource_options(1) == {"num_gpus": 1}
