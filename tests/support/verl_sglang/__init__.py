"""TEST SUPPORT ONLY: Verl 0.9.1's SGLang rollout on SGLang 0.5.23 and a CPU. Never part of the package.

Verl 0.9.1 asks for SGLang 0.5.12, of which no registry has kernels for CPUs. With
``VERL_USE_EXTERNAL_MODULES=tests.support.verl_sglang`` Verl loads this module in each of its processes. It only names,
in Verl's own registries, the classes of `tests.support.verl_sglang.bridge` for the rollout ``sglang``; they are Verl's
with the differences bridged, and are imported where a rollout is made.
"""

from typing import Any

from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry


def load_replica() -> Any:
    from tests.support.verl_sglang.bridge import Replica

    return Replica


RolloutReplicaRegistry.register("sglang", load_replica)
_ROLLOUT_REGISTRY["sglang", "async"] = f"{__name__}.bridge.Adapter"
