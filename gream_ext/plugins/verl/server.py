"""The rollout's server: a small Ray actor that gathers requests into batches.

verl's agent loops ask for one response at a time. Generating is done in the training worker
(`gream_ext.plugins.verl.rollout`), which waits while rollouts are made; so this process needs
neither torch nor verl, and starts fast.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Request:
    """One response to be sampled."""

    prompt_ids: list[int]
    options: dict[str, Any]
    """verl's sampling parameters."""


@dataclass
class Tokens:
    """What verl reads of its own ``TokenOutput``; that class would load all of verl here."""

    token_ids: list[int]
    log_probs: list[float] | None = None
    routed_experts: Any = None
    stop_reason: str | None = None
    num_preempted: int | None = None
    extra_fields: dict[str, Any] = field(default_factory=dict)


class RolloutServer:
    """Gathers requests until none has come for a while, and has them generated together.

    ``generate`` maps the requests of a batch to a coroutine of their responses; requests that
    come in the meantime form the next batch. When it raises, every request of the batch does.
    """

    def __init__(self, generate: Callable[[Sequence[Request]], Any], quiet: float = 0.05, most: int = 1024) -> None:
        self._generate = generate
        self._quiet = quiet
        self._most = most
        self._waiting: list[tuple[Request, asyncio.Future[Tokens]]] = []
        self._last_arrival = 0.0
        self._task: asyncio.Task[None] | None = None

    async def generate(self, request_id: str, *, prompt_ids: Sequence[int], sampling_params: dict, **_: Any) -> Tokens:
        """One response; verl's names, of which those about images and the like are passed by."""
        future: asyncio.Future[Tokens] = asyncio.get_running_loop().create_future()
        self._waiting.append((Request([int(token) for token in prompt_ids], dict(sampling_params)), future))
        self._last_arrival = time.monotonic()
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        while self._waiting:
            while len(self._waiting) < self._most and time.monotonic() < self._last_arrival + self._quiet:
                await asyncio.sleep(self._quiet / 5)
            batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            try:
                responses = await self._generate([request for request, _ in batch])
                for (_, future), tokens in zip(batch, responses, strict=True):
                    future.set_result(tokens)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
        self._task = None


class WorkerServer(RolloutServer):
    """The Ray actor: a `RolloutServer` whose batches are generated in a training worker."""

    def __init__(self, worker: Any, most: int) -> None:
        async def generate(requests: Sequence[Request]) -> list[Tokens]:
            return await worker.__ray_call__.remote(_in_worker, requests)

        super().__init__(generate, most=most)


def _in_worker(worker: Any, requests: Sequence[Request]) -> list[Tokens]:
    from gream_ext.plugins.verl.rollout import TransformersRollout

    if TransformersRollout.here is None:
        raise RuntimeError("this worker has no rollout")
    return TransformersRollout.here.generate(requests)
