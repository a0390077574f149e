"""What stands before every request of the service: bounds on its size and time, counting, and safe headers."""

import asyncio
import contextlib
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gream_ext.extras.serve.measures import Measures

HEADERS = [
    (b"content-security-policy", b"default-src 'self'; img-src 'self' data:; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
]
KNOWN_PATHS = ("/recommend", "/reason", "/items", "/users", "/about", "/health", "/metrics", "/static", "/openapi.json")
LINGER_SECONDS = 2.0


@dataclass(frozen=True)
class Refusal:
    """What a request is answered with in place of what it asked for; ``unread``: more of its body may come."""

    status: int
    message: str
    unread: bool = True


class Guard:
    """ASGI middleware: reads a whole body, at most ``max_body`` bytes in ``seconds``, before anybody works.

    ``hosts`` are the names that the Host header may have; None: any.
    """

    def __init__(
        self, app: ASGIApp, measures: Measures, max_body: int, seconds: float, hosts: frozenset[str] | None = None
    ):
        self.app, self.measures, self.max_body, self.seconds, self.hosts = app, measures, max_body, seconds, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 499  # nobody was there any more

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        try:
            body = await self._body(scope, receive)
            if isinstance(body, Refusal):
                await _refuse(counted, receive, body)
            elif body is not None:
                await self.app(scope, _replay(body, receive), counted)
        except Exception:
            status = 500
            raise
        finally:
            path = next((known for known in KNOWN_PATHS if scope["path"].startswith(known)), "other")
            path = "/" if scope["path"] == "/" else path
            self.measures.requests.labels(path, str(status)).inc()
            self.measures.seconds.labels(path).observe(time.monotonic() - start)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Refusal | None:
        """The body; None when the client has gone."""
        for host in [host_name(value) for name, value in scope["headers"] if name == b"host"]:
            if self.hosts is not None and host not in self.hosts:
                name = host[:100]
                return Refusal(421, f"this service does not answer to {name!r}: start it with --allowed-hosts {name}")
        names = [name for name, _ in scope["headers"]]
        if b"content-length" in names and b"transfer-encoding" in names:  # a proxy before us may read the other one
            return Refusal(400, "a request has either Content-Length or Transfer-Encoding")
        too_large = f"the request is larger than {self.max_body} bytes"
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body:
            return Refusal(413, too_large)
        content = bytearray()
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    content += message.get("body", b"")
                    unread = message.get("more_body", False)
                    if len(content) > self.max_body:
                        return Refusal(413, too_large, unread)
                    if not unread:
                        return bytes(content)
        except TimeoutError:
            return Refusal(408, f"the request did not arrive within {self.seconds:g} s")


def host_name(header: bytes) -> str:
    """The name in a Host header, in small letters and without its port.

    >>> [host_name(header) for header in (b"LocalHost:8000", b"shop.example", b"[::1]:8000")]
    ['localhost', 'shop.example', '::1']
    """
    host = header.decode("latin-1").strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].removesuffix(".")


def _replay(body: bytes, receive: Receive) -> Receive:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _refuse(send: Send, receive: Receive, refusal: Refusal) -> None:
    """Answers at once, then reads what still comes and forgets it, for at most ``LINGER_SECONDS``.

    A socket closed with something unread in it is reset, and the reset may overtake the answer.
    """
    body = json.dumps({"error": refusal.message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send(
        {"type": "http.response.start", "status": refusal.status, "headers": [*headers, (b"connection", b"close")]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": True})
    unread = refusal.unread
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while unread:
                unread = (await receive()).get("more_body", False)
    await send({"type": "http.response.body", "body": b""})


def log_without_noise() -> dict[str, Any]:
    """uvicorn's logging: one line for a start, a warning or an error, none for every request."""
    logging.getLogger("uvicorn.access").disabled = True
    return {"log_level": "info", "access_log": False, "server_header": False, "date_header": False}
