"""The plug-in in earlier versions of verl: its tests again in one that is supported, a sentence in one that is not.

scripts/setup_env.sh puts these versions beside the environment's own.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

TESTS = Path(__file__).resolve().parents[1]
LONG = ("two_workers_train", "merged_weights")
"""Of trainings one is enough: that of which the first steps are wrong."""


def run_with(version, arguments, folder):
    """The environment's interpreter, in which ``import verl`` finds this version."""
    found = Path(sys.prefix) / f"verl-{version}"
    if not (found / "verl").exists():
        pytest.skip(f"verl {version} is not there: make environment")
    path = os.pathsep.join(filter(None, [str(found), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=1700
    )


def test_supported_one_passes_the_plug_ins_tests():
    found = [path for folder in ("unit", "integration") for path in sorted((TESTS / folder).glob("test_verl_*.py"))]
    files = [path for path in found if path != Path(__file__).resolve()]
    assert len(files) > 8
    wanted = " and ".join(f"not {name}" for name in LONG)
    arguments = ["pytest", "-q", "-rf", "-p", "no:cacheprovider", "-k", wanted, *map(str, files)]
    done = run_with("0.9.0", arguments, TESTS.parent)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("recipes", ["srpo", "[srpo,cpu]"])
def test_unsupported_one_ends_with_a_sentence(tmp_path, recipes):
    done = run_with("0.8.0", ["verl.trainer.main_ppo", f"+gream={recipes}"], tmp_path)
    assert done.returncode == 1
    warning, sentence = done.stderr.strip().splitlines()[-2:]
    assert warning.startswith("gream: warning: verl 0.8.0 is not a version that gream_ext supports")
    assert sentence.startswith("gream: verl 0.8.0 has no verl.trainer.ppo.v1.replay_buffer")


def test_estimator_can_be_had_in_an_unsupported_one(tmp_path, monkeypatch):
    """verl 0.8 has no entry points for plug-ins, but loads modules that it is told."""
    monkeypatch.setenv("VERL_USE_EXTERNAL_MODULES", "gream_ext.plugins.verl.entry")
    program = tmp_path / "which.py"
    program.write_text(
        "from verl.trainer.ppo.core_algos import get_adv_estimator_fn as get\nprint(get('srpo').__module__)\n"
    )
    done = run_with("0.8.0", ["which"], tmp_path)
    assert done.stdout.splitlines()[-1] == "gream_ext.plugins.verl.estimator", done.stderr[-3000:]
