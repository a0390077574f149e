"""What a connection to the service may cost before it has asked anything; imports uvicorn."""

import asyncio
import functools
import resource
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

BACKLOG = 64
"""Connections that are accepted at once, before any of them is looked at."""


class BoundedConnection(H11Protocol):
    """uvicorn's connection, closed when headers or the reading of an answer take ``seconds``, or ``most`` are open."""

    def __init__(self, *arguments: Any, seconds: float, most: int, **named: Any):
        super().__init__(*arguments, **named)
        self._seconds, self._most = seconds, most
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._most:
            transport.abort()
        else:
            transport.set_write_buffer_limits(high=0)  # `pause_writing` as soon as the client does not read
            self._watch_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._begin("answer", self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end("answer")

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("headers")
        self._end("answer")
        super().connection_lost(exc)

    def _watch_headers(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self._begin("headers", self.transport.close)
        else:  # the headers are there: the rest is the guard's
            self._end("headers")

    def _begin(self, what: str, at_the_end: Callable[[], None]) -> None:
        if what not in self._timers:
            self._timers[what] = self.loop.call_later(self._seconds, at_the_end)

    def _end(self, what: str) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()


def bounded_connections(seconds: float, most: int) -> Any:
    """The ``http`` of uvicorn's configuration; ``most`` stays within half of the files that the process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY:
        most = max(1, min(most, files // 2))
    return functools.partial(BoundedConnection, seconds=seconds, most=most)
