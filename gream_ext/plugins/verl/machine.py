"""Whether the machine has what a recipe asks for. Verl and Ray would wait for ever, or end minutes later."""

import os
import shlex
import sys
from importlib.util import find_spec
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from gream_ext.errors import GreamError
from gream_ext.plugins.verl import internals

FLASH = "flash_attention_2"
"""Verl's own choice of attention."""


def prepare(config: DictConfig) -> None:
    """In Verl's launcher: the CPU where the recipe says so, else see to it that the accelerators are there.

    `GreamError` names what is missing and the recipe that does without.
    """
    _quote_interpreter(config)
    if config.trainer.device == "cpu":
        _use_cpu()
    elif not (config.ray_kwargs.ray_init.get("address") or _joins_a_cluster()):
        _check_accelerators(config)


def _joins_a_cluster() -> bool:
    """Whether Ray will join machines that run already, of which this process knows nothing."""
    address = os.environ.get("RAY_ADDRESS")
    if address:
        return address != "local"
    return internals.find("machine", "ray._private.utils", "read_ray_address")() is not None


def _check_accelerators(config: DictConfig) -> None:
    platform, trainer = internals.find("machine", "verl.plugin.platform", "get_platform")(), config.trainer
    there = platform.device_count() if platform.is_available() else 0
    if not there:
        raise GreamError(
            "this machine has no GPU: add the recipe cpu, '+gream=[srpo,cpu]', or let Ray join machines that have "
            "some (RAY_ADDRESS)"
        )
    if there < trainer.n_gpus_per_node or trainer.nnodes > 1:
        raise GreamError(
            f"trainer.nnodes={trainer.nnodes} with trainer.n_gpus_per_node={trainer.n_gpus_per_node} asks for more "
            f"than this machine has, {there}: set them, add the recipe one_gpu, or let Ray join more machines "
            "(RAY_ADDRESS)"
        )
    if platform.device_name != "cuda":
        return
    if _needs_flash_attention(config) and find_spec("flash_attn") is None:
        raise GreamError(
            "flash-attn is not installed: install it, add the recipe one_gpu, or set actor_rollout_ref.model."
            "use_remove_padding=false and +actor_rollout_ref.model.override_config.attn_implementation=sdpa"
        )
    if config.actor_rollout_ref.rollout.name == "sglang" and find_spec("sglang") is None:
        raise GreamError("sglang is not installed, which makes the rollouts: docs/installation.md says how")


def _needs_flash_attention(config: DictConfig) -> bool:
    model: Any = config.actor_rollout_ref.model
    return bool(model.use_remove_padding) or model.override_config.get("attn_implementation", FLASH) == FLASH


def _quote_interpreter(config: DictConfig) -> None:
    """Ray has a shell start its workers and does not quote the interpreter: with a space in its path none starts."""
    key, quoted = "ray_kwargs.ray_init.runtime_env.py_executable", shlex.quote(sys.executable)
    if quoted != sys.executable and OmegaConf.select(config, key) is None:
        OmegaConf.update(config, key, quoted, force_add=True)  # verl 0.9.0 has no such key
        # What verl 0.9.0 adds to it must be taken.
        OmegaConf.set_struct(config.ray_kwargs.ray_init.runtime_env, False)


def _use_cpu() -> None:
    if torch.cuda.is_available():
        raise GreamError("the recipe cpu is for machines without an accelerator: leave it out, or hide the accelerator")
    # Needs what verl 0.8 has not, which the recipe's check says in a sentence.
    from gream_ext.plugins.verl.cpu import support

    support.use_in_launcher()
