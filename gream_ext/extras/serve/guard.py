"""What stands before every request of the service: bounds on its size and time, counting, and safe headers."""

import asyncio
import contextlib
import json
import time
from urllib.parse import urlsplit

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


class Refused(Exception):
    """A request is answered with this status and message; ``unread``: more of its body may come."""

    def __init__(self, status: int, message: str, unread: bool = True):
        super().__init__(message)
        self.status, self.unread = status, unread


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
            self._check_headers(scope["headers"])
            body = await self._body(receive)
            if body is not None:
                await self.app(scope, _replay(body, receive), counted)
        except Refused as refused:
            await _refuse(counted, receive, refused)
        except Exception:
            status = 500
            raise
        finally:
            path = next((known for known in KNOWN_PATHS if scope["path"].startswith(known)), "other")
            path = "/" if scope["path"] == "/" else path
            self.measures.requests.labels(path, str(status)).inc()
            self.measures.seconds.labels(path).observe(time.monotonic() - start)

    def _check_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        for host in [host_name(value) for name, value in headers if name == b"host"]:
            if self.hosts is not None and host not in self.hosts:
                name = host[:100]
                raise Refused(421, f"this service does not answer to {name!r}: start it with --allowed-hosts {name}")
        known = dict(headers)
        if b"content-length" in known and b"transfer-encoding" in known:  # a proxy before us may read the other one
            raise Refused(400, "a request has either Content-Length or Transfer-Encoding")
        length = known.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.max_body:
            raise Refused(413, f"the request is larger than {self.max_body} bytes")

    async def _body(self, receive: Receive) -> bytes | None:
        """The body; None when the client has gone."""
        content, unread = bytearray(), True
        try:
            async with asyncio.timeout(self.seconds):
                while unread:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    content += message.get("body", b"")
                    unread = message.get("more_body", False)
                    if len(content) > self.max_body:
                        raise Refused(413, f"the request is larger than {self.max_body} bytes", unread)
        except TimeoutError:
            raise Refused(408, f"the request did not arrive within {self.seconds:g} s") from None
        return bytes(content)


def host_name(header: bytes) -> str:
    """The name in a Host header, in small letters and without its port; "" for what is none.

    >>> [host_name(header) for header in (b"LocalHost:8000", b"shop.example.", b"[::1]:8000", b"[")]
    ['localhost', 'shop.example', '::1', '']
    """
    try:
        return (urlsplit("//" + header.decode("latin-1").strip()).hostname or "").removesuffix(".")
    except ValueError:
        return ""


def _replay(body: bytes, receive: Receive) -> Receive:
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return first.pop() if first else await receive()

    return again


async def _refuse(send: Send, receive: Receive, refused: Refused) -> None:
    """Answers at once, then reads what still comes and forgets it, for at most ``LINGER_SECONDS``.

    A socket closed with something unread in it is reset, and the reset may overtake the answer.
    """
    body = json.dumps({"error": str(refused)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    unread = refused.unread
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while unread:
                unread = (await receive()).get("more_body", False)
    await send({"type": "http.response.body", "body": b""})
