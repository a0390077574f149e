"""Verl's first step with us: prompts read, answers scored and a group's advantages, as its trainer does each."""

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import verl as framework
from hydra import compose, initialize_config_dir
from verl import DataProto
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from gream_ext.errors import GreamError
from gream_ext.plugins.first_step import ITEMS, chat, write_model


def take(folder: Path) -> None:
    """Compose ``+gream=srpo``; read prompts, score answers and compute advantages with what it configures."""
    trainer = importlib.import_module("verl.trainer.ppo.ray_trainer")
    importlib.import_module("verl.trainer.main_ppo")
    importlib.import_module("gream_ext.plugins.verl.filter")
    with initialize_config_dir(str(Path(framework.__file__).parent / "trainer" / "config"), version_base=None):
        config: Any = compose("ppo_trainer", ["+gream=srpo", f"workspace={json.dumps(str(folder))}"])

    target, wrong = f"<answer>{ITEMS[0]}</answer>", f"<answer>{ITEMS[1]}</answer>"
    truth = {"style": "rule", "ground_truth": ITEMS[0]}
    prompts = [{"prompt": chat(item)[:1], "data_source": "gream", "reward_model": truth,
                "extra_info": {"mode": "reason", "index": place}} for place, item in enumerate(ITEMS)]  # fmt: skip
    path = folder / "train.parquet"
    pl.DataFrame(prompts).write_parquet(path)
    tokenizer = write_model(folder / "model")
    batch = collate_fn([RLHFDataset(str(path), tokenizer=tokenizer, config=config.data)[place] for place in (0, 1)])
    given = batch["extra_info"][0]

    score: Any = get_custom_reward_fn(config)
    rewards = [score(data_source="gream", solution_str=answer, ground_truth=ITEMS[0], extra_info=given)["score"]
               for answer in (target, wrong)]  # fmt: skip
    tokens = torch.zeros(2, 3)
    tokens[:, -1] = torch.tensor(rewards)
    group = DataProto.from_dict(
        tensors={"token_level_rewards": tokens, "response_mask": torch.ones(2, 3)},
        non_tensors={"uid": np.array(["one", "one"], dtype=object)},
    )
    done = trainer.compute_advantage(group, adv_estimator=config.algorithm.adv_estimator, config=config.algorithm)
    right, other = done.batch["advantages"][:, 0].tolist()
    if not right > 0 > other:
        raise GreamError(f"the right answer's advantage is {right}, the wrong one's {other}: install gream-ext again")
