"""The names of verl that we rely on: the one place to look at for a new version.

Its public registries are among them, so that a change is noticed here and not in a training run.
"""

import importlib
import inspect
from typing import Any

from gream_ext.errors import GreamError

SUPPORTED = ("0.9.0", "0.9.1")
"""Versions of verl that the tests run with."""

NAMES: dict[str, dict[str, tuple[str, ...]]] = {
    "estimator": {
        "verl.trainer.ppo.core_algos": ("register_adv_est", "ADV_ESTIMATOR_REGISTRY"),
    },
    "filter": {
        "verl.trainer.ppo.v1.replay_buffer": (
            "ReplayBuffer.sample",
            "ReplayBuffer._sync_metadata_from_transfer_queue",
            "ReplayBuffer._clear_groups",
            "ReplayBuffer._select_prompt_uids",
            "ReplayBuffer._materialize_batch",
        ),
        "transfer_queue": ("kv_batch_get", "kv_batch_put"),
    },
    "dataset": {
        "verl.utils.dataset.rl_dataset": ("RLHFDataset.maybe_filter_out_long_prompts",),
    },
    "agent loop": {
        "verl.trainer.ppo.v1.agent_loop_tq": (
            "AgentLoopWorkerTQ.__ray_actor_class__._run_agent_loop",
            "AgentLoopWorkerTQ.__ray_actor_class__._agent_loop_postprocess",
            "AgentLoopWorkerTQ.__ray_actor_class__._compute_score",
            "AgentLoopManagerTQ.create",
        ),
        "verl.experimental.agent_loop.agent_loop": ("_agent_loop_registry", "DictConfigWrap", "ToolListWrap"),
        "verl.trainer.ppo.reward": ("get_custom_reward_fn",),
    },
    "platform": {
        "verl.plugin.platform.platform_manager": ("PlatformRegistry.register", "set_platform", "get_platform"),
        "verl.plugin.platform.platform_base": ("PlatformBase",),
    },
    "rollout": {
        "verl.workers.rollout.replica": ("RolloutReplica.launch_servers", "RolloutReplicaRegistry.register"),
        "verl.workers.rollout.base": ("BaseRollout.update_weights", "_ROLLOUT_REGISTRY"),
    },
    "worker": {
        "verl.utils.distributed": ("initialize_global_process_group_ray",),
    },
    "engine": {
        "verl.workers.engine.base": ("EngineRegistry.get_engine_cls",),
        "verl.workers.engine.fsdp.transformer_impl": ("CPUOffloadPolicy",),
    },
}
"""What of ours → module → attributes that it needs there."""


def version() -> str:
    """The installed version of verl."""
    import verl

    return str(verl.__version__)


def cure_when_not_loaded() -> str:
    """How to have verl load what we register; before 0.9 it knew no entry points of plug-ins."""
    if version().startswith(tuple(f"0.{minor}." for minor in range(9))):
        return "set VERL_USE_EXTERNAL_MODULES=gream_ext.plugins.verl.entry"
    return (
        "install gream-ext with its entry points (`pip install -e .` in a source tree) and let "
        "VERL_USE_EXTERNAL_PLUGINS be unset or name gream"
    )


def find(part: str, module: str, name: str) -> Any:
    """An attribute that `NAMES` lists; `GreamError` names the version when it is not there."""
    if name not in NAMES[part][module]:
        raise KeyError(f"{module}.{name} is not listed for {part}")
    try:
        found: Any = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError) as error:
        raise GreamError(
            f"verl {version()} has no {module}.{name} ({error}), which the {part} of gream_ext needs: "
            f"install verl=={SUPPORTED[-1]}"
        ) from error
    return found


def check(part: str) -> None:
    """Raise `GreamError` when a name that a part needs is gone."""
    for module, names in NAMES[part].items():
        for name in names:
            find(part, module, name)


def check_parameters(part: str, module: str, name: str, parameters: set[str]) -> None:
    """Raise `GreamError` unless a function takes these parameters."""
    missing = parameters - inspect.signature(find(part, module, name)).parameters.keys()
    if missing:
        raise GreamError(
            f"{module}.{name} of verl {version()} takes no {sorted(missing)[0]!r}, which the {part} of gream_ext "
            f"needs: install verl=={SUPPORTED[-1]}"
        )


def unsupported() -> str:
    """A sentence when the installed version is not one that the tests run with, else ``""``."""
    if version() in SUPPORTED:
        return ""
    return f"verl {version()} is not a version that gream_ext supports: install verl=={SUPPORTED[-1]}"
