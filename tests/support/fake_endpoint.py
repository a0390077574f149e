"""A fake of an outside LLM endpoint, for tests: a real HTTP server on a free loopback port that misbehaves as told.

with FakeEndpoint(lambda call: Reply("a fine answer")) as fake:
    Endpoint(fake.url, "fake-model")
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Call:
    """What the endpoint was asked: the how-manieth call this is, from 0, and its body."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def text(self) -> str:
        return str(self.body["messages"][-1]["content"])


@dataclass(frozen=True)
class Reply:
    """What comes back; ``raw`` takes the place of a well-formed body."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    stall: float = 0.0
    finish_reason: str = "stop"
    raw: bytes | None = None
    hang_up: bool = False


class FakeEndpoint:
    """Answers POST …/chat/completions by ``script``; counts calls and how many were open at once."""

    def __init__(self, script: Callable[[Call], Reply]):
        self.script = script
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._open = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FakeEndpoint":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _handler(fake) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                with fake._lock:
                    call = Call(len(fake.calls), json.loads(content), dict(self.headers), time.monotonic())
                    fake.calls.append(call)
                    fake._open += 1
                    fake.most_at_once = max(fake.most_at_once, fake._open)
                try:
                    reply = fake.script(call)
                    fake._released.wait(reply.stall)
                finally:
                    with fake._lock:
                        fake._open -= 1
                if reply.hang_up:
                    self.close_connection = True
                    return
                message = {"role": "assistant", "content": reply.text}
                body = {
                    "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
                    "usage": {"prompt_tokens": 10, "completion_tokens": 5},
                }
                raw = json.dumps(body).encode() if reply.raw is None else reply.raw
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(raw)))
                    self.end_headers()
                    self.wfile.write(raw)
                except OSError:  # the client did not wait
                    self.close_connection = True

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler
