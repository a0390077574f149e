"""The CPU as a platform of verl, for machines without an accelerator.

It is registered everywhere and detected nowhere: verl takes it only when the environment variable
``VERL_PLATFORM=cpu`` says so, which the recipe ``gream/cpu`` arranges.
"""

import os
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

VARIABLE = "VERL_PLATFORM"
NAME = "cpu"


def asked_for() -> bool:
    """Whether this process is to run on the CPU platform."""
    return os.environ.get(VARIABLE, "").strip().lower() == NAME


class _CpuModule(ModuleType):
    """What verl asks a ``torch.<device>`` module for; memory is that of the process, in bytes."""

    def is_available(self) -> bool:
        """False: everything that verl guards with it is about the memory of an accelerator."""
        return False

    def get_device_name(self, device: Any = None) -> str:
        return "CPU"

    def memory_allocated(self, device: Any = None) -> int:
        return int(psutil.Process().memory_info().rss)

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        memory = psutil.virtual_memory()
        return int(memory.available), int(memory.total)

    def empty_cache(self) -> None:
        return

    reset_peak_memory_stats = ipc_collect = empty_cache

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


class CpuPlatform(PlatformBase):
    """gloo between processes; the Ray resource is a *logical* GPU that the recipe declares."""

    device_name = vendor_name = NAME
    device_module = _CpuModule("gream_cpu")

    def _nothing(self, *_: Any, **__: Any) -> None:
        return

    set_device = synchronize = set_allocator_settings = empty_cache = _nothing
    profiler_start = profiler_stop = cudart = _nothing

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """False, so that it is never detected: who wants it names it."""
        return False

    def current_device(self) -> Any:
        """verl moves tensors ``.to()`` this; an index would mean an accelerator."""
        return torch.device(NAME)

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def nvtx_range(self, msg: str) -> Any:
        return nullcontext()

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False


def register() -> None:
    """Make the name ``cpu`` known to verl; takes nothing over."""
    if PlatformRegistry.get(NAME) is not CpuPlatform:
        PlatformRegistry.register(NAME)(CpuPlatform)
