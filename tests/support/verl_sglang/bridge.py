"""TEST SUPPORT ONLY: what differs between Verl 0.9.1 and SGLang 0.5.23, and between an accelerator and a CPU.

Each class is Verl's, bridged in the places that are numbered; docs/srpo.md lists them.
"""

from types import SimpleNamespace
from typing import Any

import ray
import torch
from sglang.srt.arg_groups.arg_utils import record_fields
from sglang.srt.utils import patch_torch
from verl.workers.rollout.sglang_rollout import async_sglang_server, sglang_rollout
from verl.workers.rollout.sglang_rollout.http_server_engine import AsyncHttpServerAdapter


class Server(async_sglang_server.SGLangHttpServer):
    """The actor that SGLang's HTTP server runs in."""

    async def launch_server(self, master_address: str | None = None, master_port: int | None = None) -> None:
        # 1. Verl asks for the dataclass fields of SGLang's ServerArgs, which is a record of SGLang's own by now.
        async_sglang_server.dataclasses = SimpleNamespace(fields=record_fields)
        await super().launch_server(master_address, master_port)


class Replica(async_sglang_server.SGLangReplica):
    """What the trainer talks to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.server_class = ray.remote(Server)


class Engine(AsyncHttpServerAdapter):
    """The server as the training worker sees it."""

    # 2. SGLang's EngineBase has two more abstract methods, so Verl's class cannot be instantiated.
    async def begin_weight_update(self, selector: str = "all") -> dict[str, Any]:
        return await self._make_async_request("begin_weight_update", {"selector": selector})

    async def end_weight_update(self) -> dict[str, Any]:
        return await self._make_async_request("end_weight_update")


class Adapter(sglang_rollout.ServerAdapter):
    """What lives in the training worker and sends its weights."""

    async def update_weights(self, weights: Any, **kwargs: Any) -> None:
        await self._init_server_adapter()
        # 3. SGLang takes weights between these two calls only, and Verl does not make them.
        await self._engine.begin_weight_update()
        await super().update_weights(weights, **kwargs)
        await self._engine.end_weight_update()


sglang_rollout.AsyncHttpServerAdapter = Engine
# 4. SGLang changes how torch sends tensors between processes for those of an accelerator; with a CPU's it fails.
patch_torch.monkey_patch_torch_reductions = lambda: None
# 5. Torch hands a CPU's tensors over as open files, from a process to its children only; as named ones to any.
torch.multiprocessing.set_sharing_strategy("file_system")
