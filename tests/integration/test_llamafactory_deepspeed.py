"""The curriculum under the DeepSpeed blocks of our recipes, one process on a CPU: the steps and losses without it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("llamafactory")

from gream_ext.curriculum_log import read_log
from tests.support.tiny_sft import make_model, make_rows, settings, train, write_corpus

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DEEPSPEED = Path(sys.prefix) / "deepspeed"
"""Where scripts/setup_env.sh puts it: beside the frameworks they would all find it and load it."""
RECIPES = [path for path in sorted((ROOT / "recipes").glob("sft_*.yaml")) if "\ndeepspeed:" in path.read_text()]
LAUNCH = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "1", "PYTHONPATH": f"{DEEPSPEED}:{ROOT}"}
WHAT = ("step", "epoch", "kind", "phase", "planned", "align_rows", "reason_rows")


@pytest.mark.skipif(not (DEEPSPEED / "deepspeed").exists(), reason="DeepSpeed is not there: make environment")
@pytest.mark.skipif(" " in sys.executable, reason="llamafactory-cli splits its torchrun command at blanks")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_deepspeed_trains_the_steps_of_a_run_without_it(recipe: Path, tmp_path: Path) -> None:
    """More processes than one DeepSpeed does not count without an accelerator: it takes each for a world of its own."""
    make_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus", make_rows("align", 14), make_rows("reason", 6))

    def keys(name: str, **more: Any) -> dict[str, Any]:
        """4 rows a step, one curriculum epoch and a uniform one."""
        chosen = {"gream_curriculum": True, "gream_curriculum_epochs": 1, "num_train_epochs": 2, **more}
        return settings(tmp_path / "model", tmp_path / "corpus", tmp_path / name, **chosen)

    train(keys("plain"))
    said = train(keys("deepspeed", deepspeed=yaml.safe_load(recipe.read_text())["deepspeed"]), **LAUNCH)
    assert "DeepSpeed" in said
    plain, deepspeed = (read_log(tmp_path / name) for name in ("plain", "deepspeed"))
    assert [[one[name] for name in WHAT] for one in deepspeed] == [[one[name] for name in WHAT] for one in plain]
    assert [one["loss"] for one in deepspeed] == pytest.approx([one["loss"] for one in plain], rel=1e-4)
    assert {one["kind"] for one in deepspeed} == {"align", "reason"}


def test_there_is_a_recipe_with_deepspeed() -> None:
    assert RECIPES
