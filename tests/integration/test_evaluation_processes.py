"""Several processes share an evaluation, and none outlives it."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from gream_ext.evaluation.evaluate import STAGE, EvaluateSettings
from gream_ext.items.index import ItemIndex
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
    settings = {**SETTINGS, "max_new_tokens": 5_000, "n": 10, "processes": 2}
    code = (
        "from gream_ext.evaluation.evaluate import *\n"
        "if __name__ == '__main__':\n"
        f"    STAGE.run(Workspace({str(workspace.root)!r}), EvaluateSettings(**{settings!r}))\n"
    )
    script = workspace.path("long.py")
    script.write_text(code, encoding="utf-8")
    running = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, env={**os.environ})
    parent = psutil.Process(running.pid)
    deadline = time.monotonic() + 60
    # The two workers and multiprocessing's own resource tracker, each with time to load the model.
    while len(parent.children()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = parent.children()
    assert len(workers) == 3
    for worker in workers[1:]:
        while worker.cpu_times().user < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
    running.send_signal(number)
    running.wait(30)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
