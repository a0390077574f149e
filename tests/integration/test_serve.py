"""``gream serve`` as a process of its own, on a model that knows nothing."""

import asyncio
import contextlib
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

from tests.support.browser import browser_page, chromium  # noqa: E402
from tests.support.tiny_workspace import make_model_workspace  # noqa: E402

pytestmark = pytest.mark.integration
ITEMS = {f"i{number}" for number in range(40)}
OPTIONS = ("--max-tokens", "40", "--body-seconds", "240", "--direct-seconds", "240", "--reason-seconds", "240")
"""Time limits that only a fault reaches."""


@contextlib.contextmanager
def serving(*options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a service on a free port; the process is gone afterwards, whatever happens."""
    command = [sys.executable, "-m", "gream_ext.cli", "serve", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "http://127.0.0.1:" in line, line + (process.stderr.read() if process.stderr else "")
        yield line.split()[-1].rstrip("/"), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    workspace = make_model_workspace(tmp_path_factory.mktemp("serve"))
    with serving("--workspace", str(workspace.root), *OPTIONS) as (address, _):
        yield address


def test_every_path_answers(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert client.get("/health").json() == {"status": "ok"}
        answer = client.post("/recommend", json={"user_id": "u3", "n": 7, "exclude_history": True}).json()
        named = [item["item_id"] for item in answer["items"]]
        seen = {item["item_id"] for item in client.get("/users/u3").json()["history"]}
        assert len(named) == len(set(named)) == 7
        assert set(named) <= ITEMS - seen
        title = answer["items"][0]["title"]
        assert client.get("/items", params={"query": title}).json()["items"][0]["title"] == title
        with client.stream("POST", "/reason", json={"history": ["i1", "i2"], "seed": 1}) as response:
            events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: ")]
        assert events[-1]["type"] == "answer"
        assert "<title>" in client.get("/").text
        assert "gream_requests_total" in client.get("/metrics").text


def test_many_clients_at_once_and_bad_ones_among_them(address: str) -> None:
    """The good requests are all answered with real items, whatever else arrives."""

    async def good(client: Any, number: int) -> bool:
        body = {"history": [f"i{number % 40}", f"i{number * 7 % 40}"], "n": 1 + number % 10}
        response = await client.post("/recommend", json=body)
        named = [item["item_id"] for item in response.json()["items"]]
        return response.status_code == 200 and len(named) == 1 + number % 10 and set(named) <= ITEMS

    async def bad(client: Any, number: int) -> bool:
        bodies = [b"{", b"x" * 70_000, b'{"history": ["nope"]}', b'{"n": -1}']
        response = await client.post(
            "/recommend", content=bodies[number % 4], headers={"content-type": "application/json"}
        )
        return response.status_code in (413, 422) and "Traceback" not in response.text

    async def leaving(client: Any, number: int) -> bool:
        async with client.stream("POST", "/reason", json={"history": ["i1"]}) as response:
            async for _ in response.aiter_lines():
                break
        return True

    async def everybody() -> list[bool]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=240, limits=limits) as client:
            work = [good(client, n) for n in range(200)] + [bad(client, n) for n in range(24)]
            work += [leaving(client, n) for n in range(6)]
            return list(await asyncio.gather(*work))

    assert all(asyncio.run(everybody()))
    assert httpx.get(f"{address}/health", trust_env=False).status_code == 200


@pytest.mark.parametrize("announced", [True, False])
def test_who_sends_too_much_is_told_so_before_the_connection_ends(announced: bool, address: str) -> None:
    """No reset in place of the answer, however much is still on its way (a client reads when it has sent all)."""
    part = b"x" * 100_000
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        for _ in range(5):
            body = part * 200 if announced else itertools.repeat(part, 200)
            response = client.post("/recommend", content=body)
            assert response.status_code == 413
            assert "larger than" in response.json()["error"]


def test_who_sends_half_a_request_keeps_nobody_out(tmp_path: Path) -> None:
    """More connections than the service may have, none of which ever asks anything; then half a body."""
    workspace = make_model_workspace(tmp_path)
    options = ("--workspace", str(workspace.root), "--body-seconds", "4", "--max-connections", "20")
    with contextlib.ExitStack() as stack:
        address, process = stack.enter_context(serving(*options))
        port = int(address.rsplit(":", 1)[1])
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60)) for _ in range(60)]
        for one in idle:
            with contextlib.suppress(OSError):  # it is one too many
                one.sendall(b"POST /recommend HTTP/1.1\r\nHost: local")
        for one in idle:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(100) == b""
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            for _ in range(2):  # the second on a connection that was kept
                assert len(client.post("/recommend", json={"history": ["i5"]}).json()["items"]) == 10
        with socket.create_connection(("127.0.0.1", port), timeout=60) as slow:
            slow.sendall(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{")
            assert b"408" in slow.recv(20)
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=60)[1]


def test_who_asks_and_never_reads_keeps_nobody_out(tmp_path: Path) -> None:
    """As many connections as there may be, all full of answers that nobody reads: each is closed in time."""
    workspace = make_model_workspace(tmp_path)
    options = ("--workspace", str(workspace.root), "--body-seconds", "2", "--max-connections", "20")
    with contextlib.ExitStack() as stack:
        address, process = stack.enter_context(serving(*options))
        port = int(address.rsplit(":", 1)[1])
        asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
        for _ in range(20):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(5)
            one.connect(("127.0.0.1", port))
            with contextlib.suppress(OSError):  # closed by then, or its requests are not read while it does not read
                one.sendall(asked)
        deadline = time.monotonic() + 120
        while True:
            try:
                assert httpx.get(f"{address}/health", trust_env=False, timeout=60).status_code == 200
                break
            except httpx.TransportError:  # none is free yet
                assert time.monotonic() < deadline
                time.sleep(0.2)
        process.terminate()
        assert "Traceback" not in process.communicate(timeout=60)[1]


def test_a_body_is_measured_in_one_way(address: str) -> None:
    """With both headers a proxy may see two requests where we see one."""
    with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1])), timeout=60) as one:
        one.sendall(
            b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\n{}\r\n0\r\n\r\n"
        )
        assert one.recv(1000).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_and_leaves_the_port(number: signal.Signals, tmp_path: Path) -> None:
    workspace = make_model_workspace(tmp_path)
    with serving("--workspace", str(workspace.root)) as (address, process):
        process.send_signal(number)
        process.wait(120)
        assert "Traceback" not in (process.stderr.read() if process.stderr else "")
        with socket.create_server(("127.0.0.1", int(address.rsplit(":", 1)[1]))):
            pass


def test_a_taken_port_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    workspace = make_model_workspace(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "gream_ext.cli", "serve", "--workspace", str(workspace.root)]
        command += ["--port", str(taken.getsockname()[1])]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert "cannot listen on 127.0.0.1" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_an_export_serves_too(tmp_path: Path) -> None:
    workspace = make_model_workspace(tmp_path / "workspace")
    command = [sys.executable, "-m", "gream_ext.cli", "export", "--workspace", str(workspace.root)]
    subprocess.run([*command, "--output", str(tmp_path / "export")], check=True, capture_output=True, timeout=120)
    shutil.rmtree(workspace.root)
    with serving("--export", str(tmp_path / "export"), "--workspace", str(tmp_path / "none")) as (address, _):
        answer = httpx.post(f"{address}/recommend", json={"history": ["i5"]}, trust_env=False, timeout=30)
        assert len(answer.json()["items"]) == 10
        assert httpx.get(f"{address}/about", trust_env=False).json()["users"] == 0


@pytest.mark.skipif(not chromium(), reason="no Chromium here")
def test_the_page_in_a_real_browser(address: str) -> None:
    with browser_page() as page:
        page.open(f"{address}/")
        page.wait_for("document.querySelectorAll('#direct li').length == 10")
        assert "40 items." in page.evaluate("document.querySelector('#about').textContent")

        # Build a history by searching titles with the keyboard.
        title = httpx.get(f"{address}/items?query=the", trust_env=False).json()["items"][0]["title"]
        page.write("#query", title.lower())
        page.wait_for("document.querySelectorAll('#found li').length > 0")
        page.press("Enter")
        page.wait_for("document.querySelectorAll('#history li').length == 1")
        assert title in page.evaluate("document.querySelector('#history').textContent")
        page.wait_for(f"!document.querySelector('#direct').textContent.includes({json.dumps(title)})")

        # Take a user's history, and one item out of it.
        page.write("#user", "u3")
        page.evaluate("document.querySelector('#user').dispatchEvent(new Event('change'))")
        page.wait_for("document.querySelectorAll('#history li').length > 5")
        length = page.evaluate("document.querySelectorAll('#history li').length")
        page.click("#history .remove")
        assert page.evaluate("document.querySelectorAll('#history li').length") == length - 1

        # Of a long history the end is shown, and how much stands before it.
        page.evaluate("{ const one = history[0]; for (let n = 0; n < 30; n++) add(one); }")
        page.wait_for("document.querySelectorAll('#history li').length == 20")
        assert page.evaluate("document.querySelector('#earlier').textContent") == f"and {length - 1 + 30 - 20} earlier"

        # The reasoning streams in and ends with an answer, or says why there is none.
        page.click("#explain")
        page.wait_for("document.querySelector('#reasoning').textContent.length > 0")
        page.wait_for("!document.querySelector('#answer').hidden")
        assert page.evaluate("document.querySelector('#error').hidden")
        assert not page.evaluate("document.querySelector('#explain').disabled")

        page.evaluate(
            "document.querySelector('#category').value = document.querySelector('#category').options[1].value"
        )
        page.evaluate("document.querySelector('#category').dispatchEvent(new Event('change'))")
        page.wait_for(
            "[...document.querySelectorAll('#direct .categories')].every("
            "one => one.textContent.includes(document.querySelector('#category').value))"
        )

        page.click("#clear")
        page.wait_for("document.querySelectorAll('#history li').length == 0")
        assert page.evaluate("['user', 'query', 'category'].every(id => document.getElementById(id).value == '')")
        assert page.evaluate("document.querySelector('#reasoning').textContent == ''")
        assert page.evaluate("document.querySelector('#answer').hidden && document.querySelector('#earlier').hidden")
