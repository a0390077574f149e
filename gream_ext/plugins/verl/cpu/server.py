"""The rollout's server: a small Ray actor that gathers requests into batches.

verl's agent loops ask for one response at a time. Generating is done in the training worker
(`gream_ext.plugins.verl.cpu.rollout`), which has nothing else to do while rollouts are made: a thread
there takes batches from this server and gives responses back. So the server's process needs
neither torch nor verl and starts fast. That is why it does not hold the worker's handle either:
with the annotations of its methods, a handle brings all of verl.
"""

import asyncio
import os
import time
from collections.abc import Sequence
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
    """Gathers requests until none has come for ``quiet`` seconds, at most ``most``.

    One worker, on this machine, calls `take` and `give` in turn. When it dies in between, the
    requests that it had taken fail.
    """

    def __init__(self, quiet: float = 0.05, most: int = 1024) -> None:
        self._quiet = quiet
        self._most = most
        self._waiting: list[tuple[Request, asyncio.Future[Tokens]]] = []
        self._taken: list[asyncio.Future[Tokens]] = []
        self._watch: asyncio.Task[None] | None = None
        """Sees to it that the worker lives, from the first batch on."""
        self._last_arrival = 0.0

    async def generate(self, request_id: str, *, prompt_ids: Sequence[int], sampling_params: dict, **_: Any) -> Tokens:
        """One response; verl's names, of which those about images and the like are passed by."""
        future: asyncio.Future[Tokens] = asyncio.get_running_loop().create_future()
        self._waiting.append((Request([int(token) for token in prompt_ids], dict(sampling_params)), future))
        self._last_arrival = time.monotonic()
        return await future

    async def take(self, worker: int) -> list[Request]:
        """The next batch, as soon as there is one; ``worker`` is the process that will make it."""
        while not self._waiting or (
            len(self._waiting) < self._most and time.monotonic() < self._last_arrival + self._quiet
        ):
            await asyncio.sleep(self._quiet / 5)
        batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
        self._taken = [future for _, future in batch]
        self._watch = asyncio.create_task(self._watch_over(worker, self._taken))
        return [request for request, _ in batch]

    async def give(self, responses: Sequence[Tokens], error: str | None = None) -> None:
        """The responses of the batch that was taken, or what went wrong."""
        if self._watch is not None:
            self._watch.cancel()
        if error is not None:
            self._fail(self._taken, error)
            return
        for future, tokens in zip(self._taken, responses, strict=True):
            if not future.done():
                future.set_result(tokens)

    async def _watch_over(self, worker: int, taken: Sequence[asyncio.Future[Tokens]]) -> None:
        while _alive(worker):
            await asyncio.sleep(1)
        self._fail(taken, f"the training worker, process {worker}, died while it was generating")

    @staticmethod
    def _fail(taken: Sequence[asyncio.Future[Tokens]], error: str) -> None:
        for future in taken:
            if not future.done():
                future.set_exception(RuntimeError(error))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
