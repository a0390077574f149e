"""A fake of an outside LLM endpoint, for tests: a real HTTP server on a free loopback port that misbehaves as told.

with FakeEndpoint(lambda call: Reply("a fine answer")) as fake:
    AskSettings(fake.url, "fake-model")
"""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gream_ext.extras.ask.ledger import read_ledger


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
    """Answers POST …/chat/completions by ``script``; counts calls and how many were open at once.

    From call number ``hold_at`` on, answers wait until `go_on` is set.
    """

    def __init__(self, script: Callable[[Call], Reply], hold_at: int | None = None):
        self.script, self.hold_at = script, hold_at
        self.go_on = threading.Event()
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
        self.go_on.set()
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
                    if fake.hold_at is not None and call.number >= fake.hold_at:
                        fake.go_on.wait()
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


def interrupted(
    command: Sequence[str], fake: FakeEndpoint, ledger: Path, end: signal.Signals = signal.SIGKILL
) -> tuple[int, int]:
    """Run a command until it has kept every answer before ``hold_at``, then send ``end``: exit code, answers kept."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while len(read_ledger(ledger)) < (fake.hold_at or 0):
            assert child.poll() is None
            time.sleep(0.01)
        child.send_signal(end)
        if end != signal.SIGKILL:
            fake.go_on.set()
        code = child.wait(60)
    finally:
        child.kill()
        child.wait()
    fake.go_on.set()
    return code, len(read_ledger(ledger))
