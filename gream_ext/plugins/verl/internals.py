"""The names of verl that we rely on: the one place to look at for a new version.

Its public registries are among them, so that a change is noticed here and not in a training run.
"""

from gream_ext.plugins.relied_on import Names, ReliedOn

SUPPORTED = ("0.9.0", "0.9.1")
"""Versions of verl that the tests run with."""

_WORKER = "AgentLoopWorkerTQ.__ray_actor_class__"

NAMES: Names = {
    "estimator": {
        "verl.trainer.ppo.core_algos": {"register_adv_est": (), "ADV_ESTIMATOR_REGISTRY": ()},
    },
    "filter": {
        "verl.trainer.ppo.v1.replay_buffer": {
            "ReplayBuffer.sample": ("self", "global_steps", "partition_id", "batch_size"),
            "ReplayBuffer._sync_metadata_from_transfer_queue": ("self",),
            "ReplayBuffer._clear_groups": ("self", "partition_id", "uids"),
            "ReplayBuffer._select_prompt_uids": ("self", "partition_id", "sampleable_keys", "batch_size"),
            "ReplayBuffer._materialize_batch": ("self", "partition_id", "selected_prompt_uids", "partition_snapshot"),
        },
        "verl.trainer.ppo.v1.trainer_base": {
            "PPOTrainer._add_prompts_to_generate": ("self", "num_prompts"),
            "PPOTrainer._update_actor": ("self", "batch", "metrics"),
        },
        "transfer_queue": {
            "kv_batch_get": ("keys", "partition_id", "select_fields"),
            "kv_batch_put": ("keys", "partition_id", "fields"),
        },
    },
    "dataset": {
        "verl.utils.dataset.rl_dataset": {"RLHFDataset.maybe_filter_out_long_prompts": ("self", "dataframe")},
    },
    "agent loop": {
        "verl.trainer.ppo.v1.agent_loop_tq": {
            f"{_WORKER}._run_agent_loop": ("self", "sampling_params", "trajectory", "agent_name", "trace"),
            f"{_WORKER}._agent_loop_postprocess": ("self", "output", "validate"),
            f"{_WORKER}._compute_score": ("self", "outputs", "kwargs"),
            "AgentLoopManagerTQ.create": (),
        },
        "verl.experimental.agent_loop.agent_loop": {
            "_agent_loop_registry": (),
            "DictConfigWrap": ("config",),
            "ToolListWrap": (),
        },
        "verl.trainer.ppo.reward": {"get_custom_reward_fn": ()},
    },
    "machine": {
        "verl.plugin.platform": {"get_platform": ()},
        "ray._private.utils": {"read_ray_address": ("temp_dir",)},
    },
    "platform": {
        "verl.plugin.platform.platform_manager": {
            "PlatformRegistry.register": (),
            "set_platform": (),
            "get_platform": (),
        },
        "verl.plugin.platform.platform_base": {"PlatformBase": ()},
    },
    "rollout": {
        "verl.workers.rollout.replica": {
            "RolloutReplica.launch_servers": ("self",),
            "RolloutReplicaRegistry.register": ("name", "loader"),
        },
        "verl.workers.rollout.base": {
            "BaseRollout.update_weights": ("self", "weights", "wire_format"),
            "_ROLLOUT_REGISTRY": (),
        },
    },
    "worker": {
        "verl.utils.distributed": {"initialize_global_process_group_ray": ("timeout_second", "backend")},
    },
    "engine": {
        "verl.workers.engine.base": {"EngineRegistry.get_engine_cls": ()},
        "verl.workers.engine.fsdp.transformer_impl": {"CPUOffloadPolicy": ("pin_memory",)},
    },
}
_VERL = ReliedOn("verl", "verl", SUPPORTED, NAMES)
version, unsupported, check, find = _VERL.version, _VERL.unsupported, _VERL.check, _VERL.find


def cure_when_not_loaded() -> str:
    """How to have verl load what we register; before 0.9 it knew no entry points of plug-ins."""
    if version().startswith(tuple(f"0.{minor}." for minor in range(9))):
        return "set VERL_USE_EXTERNAL_MODULES=gream_ext.plugins.verl.entry"
    return (
        "install gream-ext with its entry points (`pip install -e .` in a source tree) and let "
        "VERL_USE_EXTERNAL_PLUGINS be unset or name gream"
    )
