"""Two SGLangs for the whole run, each with a catalogue of its own.

``offline``: the offline engine, identifiers of four or five tokens, scheduling and computing in turn.
``server``: a server over HTTP, identifiers of five tokens, scheduling and computing overlapped (SGLang's default).
"""

import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("sglang", reason="needs the environment of `make test-sglang`")

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.decoding.trie import ItemTrie
from gream_ext.inference.engines.sglang import SGLangEngine
from gream_ext.inference.engines.sglang_offline import CPU_ARGUMENTS
from gream_ext.inference.engines.sglang_request import TRIE_VARIABLE
from gream_ext.inference.engines.transformers import TransformersEngine
from gream_ext.inference.loading import load_model
from gream_ext.inference.modes import Modes
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.processes import end, free_ports
from tests.support.tiny_reasoner import make_reasoner_workspace

STARTS_WITHIN = 900.0
"""Seconds. A start takes 16 to 50 on an idle machine."""


@dataclass(frozen=True)
class Both:
    """SGLang and transformers on the same model and catalogue."""

    workspace: Workspace
    sglang: Modes
    transformers: Modes
    url: str | None = None


def modes(workspace: Workspace, engine: object, index: ItemIndex) -> Modes:
    return Modes(engine, index, PromptSettings(system_prompt="short"))  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def offline(tmp_path_factory):
    workspace = make_reasoner_workspace(tmp_path_factory.mktemp("offline") / "w", slot="colliding")
    index = ItemIndex.load(workspace.item_index)
    model, tokenizer = load_model(workspace.model("sft"))
    trie = ItemTrie.from_index(index, tokenizer)
    engine = SGLangEngine.launch(
        workspace.model("sft"),
        tokenizer,
        trie,
        device="cpu",
        dtype="float32",
        max_total_tokens=16_384,
        disable_overlap_schedule=True,
        watchdog_timeout=3600,
        sleep_on_idle=True,  # else it keeps a core busy until the last test has run
    )
    try:
        yield Both(
            workspace,
            modes(workspace, engine, index),
            modes(workspace, TransformersEngine(model, tokenizer, trie), index),
        )
    finally:
        engine.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    workspace = make_reasoner_workspace(folder / "w")
    index = ItemIndex.load(workspace.item_index)
    model, tokenizer = load_model(workspace.model("sft"))
    trie = ItemTrie.from_index(index, tokenizer)
    trie.save(folder / "trie.safetensors")
    url, process, log = start_server(workspace.model("sft"), folder / "trie.safetensors", folder / "server.log")
    try:
        wait_for(url, process, log)
        yield Both(
            workspace,
            modes(workspace, SGLangEngine.connect(url, tokenizer, trie), index),
            modes(workspace, TransformersEngine(model, tokenizer, trie), index),
            url,
        )
    finally:
        end(process)


@pytest.fixture(params=["offline", "server"])
def both(request) -> Both:
    return request.getfixturevalue(request.param)


def start_server(model: Path, trie: Path, log: Path) -> tuple[str, subprocess.Popen, Path]:
    """The command of docs/sglang.md, on a free port."""
    (port,) = free_ports(1)
    arguments = {
        **CPU_ARGUMENTS,
        "max_total_tokens": 16_384,
        "page_size": 1,
        "dtype": "float32",
        "port": port,
        "watchdog_timeout": 3600,
    }
    words = [word for name, value in arguments.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    server = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(model), "--host", "127.0.0.1"]
    command = [*server, *words, "--sleep-on-idle"]
    environment = {**os.environ, TRIE_VARIABLE: str(trie), "SGLANG_USE_CPU_ENGINE": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
    return f"http://127.0.0.1:{port}", process, log


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    """Until the server answers, or an error with the end of its log."""
    deadline = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health_generate", timeout=30) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"the server did not start:\n{log.read_text()[-4000:]}")
