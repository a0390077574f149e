"""Verl with SGLang as on a GPU machine, as far as it goes without one: all but the kernels' own work."""

from pathlib import Path

import yaml

from tests.gpu_env.conftest import Run

ROLLOUT = ("sglang_rollout", "async_sglang_server")


def test_doctor_says_how_far_the_rollout_can_be_imported(rl: Run) -> None:
    lines = [" ".join(line.split()) for line in rl("gream", "doctor").splitlines()]
    assert "a group's advantages in place" in lines
    rollout = next(line for line in lines if line.startswith("SGLang rollout"))
    assert rollout.removeprefix("SGLang rollout ") in (
        "in place",
        "imported up to libcuda.so, which comes with a GPU's driver",
    )


def test_the_recipe_for_gpus_composes(rl: Run, tmp_path: Path) -> None:
    words = ("+gream=srpo", f"workspace={tmp_path}", "--cfg", "job", "--resolve")
    said = rl("python", "-m", "verl.trainer.main_ppo", *words)
    config = yaml.safe_load(said[said.index("actor_rollout_ref:") :])
    assert config["algorithm"]["adv_estimator"] == "srpo"
    assert config["actor_rollout_ref"]["rollout"]["name"] == "sglang"


def test_the_rollout_is_imported_whole_beside_the_drivers_library(rl: Run, driver: Path) -> None:
    """SGLang's kernels load beside this torch, and Verl's rollout finds in this SGLang whatever it imports."""
    modules = ["sgl_kernel", *(f"verl.workers.rollout.sglang_rollout.{name}" for name in ROLLOUT)]
    code = f"import importlib; print('imported', len([importlib.import_module(name) for name in {modules}]))"
    assert "imported 3" in rl("python", "-c", code, LD_LIBRARY_PATH=str(driver))
