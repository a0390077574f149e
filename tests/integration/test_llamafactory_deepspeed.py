"""The curriculum under the DeepSpeed blocks of our recipes, one process on a CPU: the steps and losses without it."""

import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("llamafactory")

from tests.support.tiny_sft import assert_same_training, short_curriculum, train

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
DEEPSPEED = Path(sys.prefix) / "deepspeed"
"""Where scripts/setup_env.sh puts it: beside the frameworks they would all find it and load it."""
RECIPES = [path for path in sorted((ROOT / "recipes").glob("sft_*.yaml")) if "\ndeepspeed:" in path.read_text()]
LAUNCH = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "1", "PYTHONPATH": f"{DEEPSPEED}:{ROOT}"}


@pytest.mark.skipif(not (DEEPSPEED / "deepspeed").exists(), reason="DeepSpeed is not there: make environment")
@pytest.mark.skipif(" " in sys.executable, reason="llamafactory-cli splits its torchrun command at blanks")
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_deepspeed_trains_the_steps_of_a_run_without_it(recipe: Path, tmp_path: Path) -> None:
    """More processes than one DeepSpeed does not count without an accelerator: it takes each for a world of its own."""
    train(short_curriculum(tmp_path, "plain"))
    block = yaml.safe_load(recipe.read_text())["deepspeed"]
    assert "DeepSpeed" in train(short_curriculum(tmp_path, "deepspeed", deepspeed=block), **LAUNCH)
    assert_same_training(tmp_path / "deepspeed", tmp_path / "plain")


def test_there_is_a_recipe_with_deepspeed() -> None:
    assert RECIPES
