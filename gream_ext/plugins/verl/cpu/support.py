"""What verl needs, beside a platform, to run without an accelerator.

Nothing here is called unless the platform ``cpu`` was asked for (`gream_ext.plugins.verl.cpu.platform`).
The FSDP engine needs no registration: the recipe sets ``VERL_ENGINE_DEVICE=cuda``, verl's own
variable for the engine to choose.
"""

import functools
import importlib
import os
from typing import Any

from verl.plugin.platform import platform_manager

from gream_ext.plugins.verl import internals
from gream_ext.plugins.verl.cpu import platform

ROLLOUT = "transformers"
"""``actor_rollout_ref.rollout.name`` of the rollout that generates with transformers."""


def use_in_launcher() -> None:
    """In the process of ``verl.trainer.main_ppo``: the CPU, from here on and in what it starts."""
    os.environ[platform.VARIABLE] = platform.NAME
    platform.register()
    if platform_manager.get_platform().device_name != platform.NAME:
        platform_manager.set_platform(platform.CpuPlatform())


def use_in_worker() -> None:
    """In a process that Ray started for such a run: rollout, process group, offload policy."""
    from verl.utils import distributed

    internals.check("worker")
    register_rollout()
    if not hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"):
        distributed.initialize_global_process_group_ray = _with_gloo(distributed.initialize_global_process_group_ray)


def register_rollout() -> None:
    """Make the rollout ``transformers`` known to verl."""
    internals.check("rollout")
    replicas = internals.find("rollout", "verl.workers.rollout.replica", "RolloutReplicaRegistry.register")
    adapters = internals.find("rollout", "verl.workers.rollout.base", "_ROLLOUT_REGISTRY")
    replicas(ROLLOUT, _load_replica)
    adapters[ROLLOUT, "async"] = "gream_ext.plugins.verl.cpu.rollout.TransformersRollout"


def _load_replica() -> Any:
    from gream_ext.plugins.verl.cpu.rollout import TransformersReplica

    return TransformersReplica


def _with_gloo(initialize: Any) -> Any:
    """verl asks torch for ``cpu:gloo,cpu:gloo``, which torch refuses; plain gloo is what it means.

    This is also the first thing that a training worker does, and so the moment to mend the engine.
    """

    @functools.wraps(initialize)
    def initialize_with_gloo(timeout_second: int | None = None, backend: str | None = None) -> Any:
        _without_pinned_memory()
        return initialize(timeout_second=timeout_second, backend=backend or "gloo")

    return initialize_with_gloo


def _without_pinned_memory() -> None:
    """Memory is pinned for copies to an accelerator, and without one torch refuses to pin it."""
    module = "verl.workers.engine.fsdp.transformer_impl"
    policy: Any = internals.find("engine", module, "CPUOffloadPolicy")
    vars(importlib.import_module(module))["CPUOffloadPolicy"] = lambda pin_memory=True: policy(pin_memory=False)
