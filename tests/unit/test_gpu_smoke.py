"""The plan of ``make gpu-smoke``: every command that is ours can be parsed, with a GPU and without."""

import importlib.util
import sys
from pathlib import Path

import pytest

from gream_ext.cli import _command, parser
from gream_ext.pipeline.settings import build
from gream_ext.pipeline.table import TABLE

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_smoke.py"
HERE = Path(sys.executable)


@pytest.fixture(scope="module")
def smoke():
    spec = importlib.util.spec_from_file_location("gpu_smoke", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_smoke"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_smoke"]


@pytest.mark.parametrize("gpu", [False, True])
def test_every_command_of_ours_is_one(smoke, gpu, tmp_path):
    steps = smoke.plan(tmp_path / "w", gpu, HERE, HERE, HERE)
    ours = [step.command[3:] for step in steps if list(step.command[1:3]) == ["-m", "gream_ext.cli"]]
    assert len(ours) > 9
    for words in ours:
        name, rest = _command(list(words))
        stage = TABLE[name].load()
        parsed = vars(parser(name, stage).parse_args(rest))
        for key in ("workspace", "force"):
            parsed.pop(key)
        build(stage.settings, parsed, name)


def test_a_gpu_gets_the_gpu_recipe_and_a_cpu_says_what_it_leaves_out(smoke, tmp_path):
    plans = {gpu: smoke.plan(tmp_path, gpu, HERE, HERE, HERE) for gpu in (False, True)}
    rl = {gpu: next(step for step in steps if "rl" in step.command[3:4]) for gpu, steps in plans.items()}
    assert "cpu" in rl[False].command and "cpu" not in rl[True].command
    assert rl[True].name == "SRPO with SGLang rollout"
    names = [step.name for step in smoke.plan(tmp_path, True, HERE, HERE, None) if step.skipped]
    assert names == ["reasoning mode, SGLang", "direct mode, SGLang", "the engines agree"]
    assert not any(step.skipped for step in smoke.plan(tmp_path, True, HERE, HERE, HERE))


def test_the_log_names_what_failed(smoke, tmp_path):
    log = tmp_path / "log"
    assert smoke.run(smoke.Step("well", [str(HERE), "-c", "print('here')"]), log)
    assert not smoke.run(smoke.Step("badly", [str(HERE), "-c", "raise SystemExit('gone')"]), log)
    assert "== well" in log.read_text() and "here" in log.read_text() and "gone" in log.read_text()
