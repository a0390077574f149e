"""``gream serve --engine sglang`` as a process: before a running server, and with SGLang in its own process."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytest.importorskip("uvicorn")

from gream_ext.inference.model import load
from gream_ext.inference.questions import Question
from gream_ext.inference.source import workspace_source
from tests.sglang.conftest import start_server, wait_for
from tests.support.processes import end

pytestmark = pytest.mark.timeout(2700)  # each starts SGLang once or twice
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
ITEMS = {f"i{number}" for number in range(40)}


@contextmanager
def serving(workspace: Any, *options: str) -> Iterator[tuple[str, subprocess.Popen]]:
    command = [sys.executable, "-m", "gream_ext.cli", "serve", "--port", "0", "--workspace", str(workspace.root)]
    patient = ["--max-tokens", "40", "--direct-seconds", "300", "--reason-seconds", "300"]
    environment = {**os.environ, "SGLANG_USE_CPU_ENGINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")  # files: a pipe that nobody reads gets full
        with output.open("w") as out, errors.open("w") as err:
            process = subprocess.Popen(
                [*command, "--engine", "sglang", *patient, *options], stdout=out, stderr=err, env=environment
            )
        try:
            while not (address := announced(output)):
                if process.poll() is not None:
                    raise RuntimeError(errors.read_text(errors="replace")[-3000:])
                time.sleep(0.1)
            yield address, process
        finally:
            end(process)


def announced(output: Path) -> str | None:
    """The address that the service says, once it has said it; SGLang talks, too."""
    for line in output.read_text(errors="replace").splitlines(keepends=True):
        if line.startswith("gream serve: ") and "http://" in line and line.endswith("\n"):
            return line.split()[-1].rstrip("/")
    return None


def post(address: str, path: str, body: dict[str, Any]) -> tuple[int, str]:
    asked = urllib.request.Request(f"{address}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with OPENER.open(asked, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def reasoned(address: str) -> bool:
    """Forty reasonings, four at once; whether one of them named an item, as an eighth of a random model's do."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: post(address, "/reason", {"history": [f"i{n}"]}), range(40)))
    for status, text in answers:
        events = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]
        assert status == 200 and events[-1]["type"] == "answer", text
        assert events[-1]["item"] is None or events[-1]["item"]["item_id"] in ITEMS
    return any('"item": {' in text for _, text in answers)


def check(address: str, workspace: Any) -> None:
    """Both modes, many at once, sub-catalogues and mistakes; direct mode says what transformers says."""
    bodies: list[dict[str, Any]] = [{"history": [f"i{n}", f"i{n * 7 % 40}"], "n": 1 + n % 8} for n in range(24)]
    for body in bodies[::3]:
        body["items"] = ["i3", "i9", "i27"]
    recommender = load(workspace_source(workspace))
    asked = [
        Question(tuple(body["history"]), body["n"], among=frozenset(body["items"]) if "items" in body else None)
        for body in bodies
    ]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda body: post(address, "/recommend", body), bodies))
    for (status, text), expected in zip(answers, recommender.direct(asked), strict=True):
        assert status == 200, text
        assert [item["item_id"] for item in json.loads(text)["items"]] == [one.item_id for one in expected]
    assert any(reasoned(address) for _ in range(10)), "of 400 samples about 50 should name an item"
    for body, wanted in (({"history": ["nope"]}, 422), ({"n": -1}, 422), ({"user_id": "nobody"}, 404)):
        status, text = post(address, "/recommend", body)
        assert status == wanted and "Traceback" not in text
    status, text = post(address, "/reason", {"history": ["i1"], "seed": 5})
    assert "from its seed" in text
    with OPENER.open(f"{address}/health", timeout=60) as answer:
        assert json.load(answer) == {"status": "ok"}


def test_before_a_running_server(server: Any) -> None:
    with serving(server.workspace, "--server", server.url) as (address, _):
        check(address, server.workspace)


def test_with_sglang_in_its_own_process(offline: Any) -> None:
    with serving(offline.workspace) as (address, process):
        check(address, offline.workspace)
        started = psutil.Process(process.pid).children(recursive=True)
        assert started, "SGLang's scheduler and detokenizer"
        process.terminate()
        process.wait(300)
        _, left = psutil.wait_procs(started, timeout=300)
        assert not left, "nothing of SGLang runs on"


def test_a_server_that_goes(server: Any, tmp_path: Any) -> None:
    """503 from then on, and a mistake is still a 4xx: the service itself goes on."""
    trie = server.workspace.root.parent / "trie.safetensors"
    url, first, log = start_server(server.workspace.model("sft"), trie, tmp_path / "first.log")
    try:
        wait_for(url, first, log)
        with serving(server.workspace, "--server", url) as (address, _):
            assert post(address, "/recommend", {"history": ["i1"]})[0] == 200
            first.kill()
            first.wait()
            status, text = post(address, "/recommend", {"history": ["i1"]})
            assert (status, json.loads(text)) == (503, {"error": "the model's engine does not answer"})
            assert post(address, "/recommend", {"history": ["nope"]})[0] == 422
    finally:
        end(first)
