"""Several processes share an evaluation, and none outlives it."""

import multiprocessing
import signal
import subprocess
import sys
import time

import psutil
import pytest

from gream_ext.base_model.model_format import ModelFormat, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.evaluation.stages import EVALUATE as STAGE
from gream_ext.evaluation.stages import EvaluateSettings
from gream_ext.items.index import ItemIndex
from tests.support.processes import kill
from tests.support.synthetic import make_workspace
from tests.support.tiny_models import tiny_chat_model

pytestmark = pytest.mark.integration

SETTINGS = {"mode": "reason", "n": 4, "cutoffs": (1,), "max_new_tokens": 20, "rows_at_once": 40}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = make_workspace(tmp_path_factory.mktemp("runs"))
    model, tokenizer = tiny_chat_model(ItemIndex.load(workspace.item_index))
    model.save_pretrained(workspace.model("sft"))
    tokenizer.save_pretrained(workspace.model("sft"))
    write_format(workspace.model("sft"), ModelFormat(PromptSettings()))
    return workspace


def test_two_processes_write_the_same_as_one(workspace):
    found = []
    for processes in (1, 2):
        settings = EvaluateSettings(**SETTINGS, processes=processes)
        STAGE.run(workspace, settings)
        found.append([path.read_bytes() for path in STAGE.writes(workspace, settings)])
    assert found[0] == found[1]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_an_interruption(workspace, number):
    """Each worker says that it has begun to answer, and answers until it is ended."""
    begun = workspace.path(f"begun-{number}")
    begun.mkdir()
    script = workspace.path("long.py")
    script.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from gream_ext.evaluation import shards\n"
        "from gream_ext.evaluation.stages import EVALUATE, EvaluateSettings, Workspace\n"
        "once = shards.answer\n"
        "def answer(*given):\n"
        f"    Path({str(begun)!r}, str(os.getpid())).touch()\n"
        "    while True:\n"
        "        once(*given)\n"
        "shards.answer = answer\n"  # in the workers too: each imports this file
        "if __name__ == '__main__':\n"
        f"    EVALUATE.run(Workspace({str(workspace.root)!r}), EvaluateSettings(**{SETTINGS!r}, processes=2))\n",
        encoding="utf-8",
    )
    errors = workspace.path("errors.txt")
    with errors.open("w") as file:
        running = subprocess.Popen([sys.executable, str(script)], stderr=file)
    started = []
    try:
        while len(list(begun.iterdir())) < 2:
            assert running.poll() is None, errors.read_text()[-3000:]
            time.sleep(0.1)
        started = psutil.Process(running.pid).children(recursive=True)
        assert {int(path.name) for path in begun.iterdir()} <= {process.pid for process in started}
        running.send_signal(number)
        running.wait(600)
        _, alive = psutil.wait_procs(started, timeout=600)
        assert not alive
    finally:
        kill(running, started)
