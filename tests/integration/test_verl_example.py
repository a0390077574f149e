"""examples/another_verl_project: the reward in verl's own reward code, on a hierarchy that is not ours."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[2] / "examples" / "another_verl_project"


@pytest.fixture
def config():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(EXAMPLE), version_base=None):
        yield compose("taxonomy", ["hydra.searchpath=[pkg://verl.trainer.config]"])
    GlobalHydra.instance().clear()


def test_scores_what_the_example_asks_for(config, tmp_path):
    import polars as pl
    from verl.trainer.ppo.reward import get_custom_reward_fn

    subprocess.run([sys.executable, str(EXAMPLE / "make_data.py"), str(tmp_path)], check=True, timeout=60)
    score = get_custom_reward_fn(config)
    row = next(
        row for row in pl.read_parquet(tmp_path / "train.parquet").to_dicts() if "Pans" in str(row["reward_model"])
    )
    answers = {
        "<think>A pan.</think><answer>Home > Kitchen > Pans</answer>": (1.0, 3, "exact"),
        "<answer>Home>Kitchen>Knives</answer>": ((2 / 3) ** 0.5, 2, "partial"),
        "<answer>Home > Bath</answer>": ((1 / 3) ** 0.5, 1, "partial"),
        "<answer>Sports</answer>": (0.0, 0, "different"),
        "Home > Kitchen > Pans": (0.0, 0, "no_answer"),
        "<answer>Home > Kitchen > Pans > Woks</answer>": (0.0, 0, "wrong_length"),
    }
    for text, (value, matched, status) in answers.items():
        result = score(row["data_source"], text, row["reward_model"]["ground_truth"], row["extra_info"])
        result = asyncio.run(result) if asyncio.iscoroutine(result) else result
        assert result["score"] == pytest.approx(value)
        assert (result["matched_levels"], result["status"]) == (matched, status)


def test_its_configuration_is_one_of_verl(config):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config.actor_rollout_ref.model.path = "somewhere"
    validate_config(config, need_reference_policy(config), need_critic(config))
    assert omega_conf_to_dataclass(config.actor_rollout_ref.rollout).n == 8
    assert config.algorithm.adv_estimator == "srpo"


def replay_buffer(config):
    """As verl's trainer makes it."""
    from verl.trainer.ppo.v1.trainer_base import PPOTrainer

    class Trainer(SimpleNamespace):
        def _add_prompts_to_generate(self, prompts):
            return prompts

    trainer = Trainer(config=config, trainer_mode=config.trainer.v1.trainer_mode)
    return PPOTrainer._build_replay_buffer(trainer)


def test_its_filter_is_ours(config):
    """With verl's own a step in which nobody is right never ends."""
    made = replay_buffer(config)
    assert type(made).__name__ == "GroupFilter"
    assert (made.options.metric, made.options.max_refills) == ("matched_levels", 2.0)
    assert made.options.srpo["k"] == 4
    assert config.algorithm.filter_groups.enable  # verl fetches single prompts


def test_the_lines_of_the_docs():
    """What docs/srpo.md has anybody add to a command of theirs: advantage, reward and filter are ours."""
    import verl

    text = (EXAMPLE.parents[1] / "docs" / "srpo.md").read_text(encoding="utf-8")
    words = re.search(r"main_ppo …(.*?)```", text, re.DOTALL)[1].replace("\\\n", " ").split()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        config = compose("ppo_trainer", words)
    GlobalHydra.instance().clear()
    assert config.algorithm.adv_estimator == "srpo"
    assert config.algorithm.filter_groups.enable
    assert config.reward.custom_reward_function.path == "pkg://gream_ext.rewards"
    assert config.reward.custom_reward_function.name == "compute_score"
    assert type(replay_buffer(config)).__name__ == "GroupFilter"
