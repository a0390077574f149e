"""SRPO in TRL: the residual reward, the trie and the advantage in a GRPOTrainer (one process or many).

    python examples/trl/srpo.py runs/shop --steps 2

The workspace has a trained model (`gream sft`) and prompts (`gream corpus rl`).
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList
from trl import GRPOConfig, GRPOTrainer

from gream_ext.advantages import srpo_advantages
from gream_ext.decoding.processors import AnswerProcessor
from gream_ext.decoding.trie import ItemTrie
from gream_ext.items.index import ItemIndex
from gream_ext.rewards import compute_score
from gream_ext.workspace import Workspace


def residual_reward(completions: list[Any], ground_truth: list[str], mode: list[str], **_: Any) -> list[float]:
    """Eqs 13–14, as TRL calls a reward function: the columns of the data set come as lists."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    asked = zip(texts, ground_truth, mode, strict=True)
    return [compute_score("gream", text, truth, {"mode": how})["score"] for text, truth, how in asked]


class SrpoTrainer(GRPOTrainer):
    """GRPOTrainer with the advantage of eq. 21. TRL has no hook for one, so two of its methods are wrapped.

    TRL computes its own advantage first, from the same rewards; it is replaced before anything is trained with it.
    """

    draw = 4  # k of eq. 15; in groups that are no larger the bonus is 0

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self.rewards = super()._calculate_rewards(*args, **kwargs)  # [rollouts of all processes, reward functions]
        return self.rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        rewards = self.rewards[:, 0]
        size = self.num_generations if self.model.training else self.num_generations_eval
        groups = torch.arange(len(rewards)) // size  # TRL repeats a prompt `size` times in a row
        # The residual reward is 1 for an exact answer and for nothing else.
        advantages = srpo_advantages(rewards, rewards == 1.0, groups, self.draw)
        mine = self.accelerator.process_index * len(inputs)
        batch["advantages"] = advantages[mine : mine + len(inputs)].to(batch["advantages"])
        return batch


def read_prompts(path: Path, mode: str | None = None) -> Dataset:
    """The rows of `gream corpus rl` with the columns that TRL and `residual_reward` want."""
    rows = pl.read_parquet(path).select(
        "prompt",
        pl.col("reward_model").struct.field("ground_truth"),
        pl.col("extra_info").struct.field("mode"),
    )
    return Dataset.from_list(rows.filter(pl.lit(mode is None) | (pl.col("mode") == mode)).to_dicts())


def make_trainer(workspace: Workspace, output: Path, **settings: Any) -> SrpoTrainer:
    folder = workspace.model("sft")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    trie = ItemTrie.from_index(ItemIndex.load(workspace.item_index), tokenizer)
    # Whatever stands between <answer> and </answer> is an item. TRL calls the model's own generate.
    only_items = LogitsProcessorList([AnswerProcessor.for_tokenizer(trie, tokenizer)])
    model.generate = partial(model.generate, logits_processor=only_items)
    # Identifiers and </answer> are ordinary tokens, so that TRL's decoding leaves them in the text for the reward.
    return SrpoTrainer(
        model,
        residual_reward,
        GRPOConfig(output_dir=str(output), report_to="none", **settings),
        train_dataset=read_prompts(workspace.path("rl", "train.parquet"), mode="reason"),
        processing_class=tokenizer,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rollouts", type=int, default=8, help="of each prompt")
    parser.add_argument("--tokens", type=int, default=256, help="longest response")
    parser.add_argument("--learning-rate", type=float, default=1e-6)
    given = parser.parse_args()
    output = given.workspace / "trl"
    trainer = make_trainer(
        Workspace(given.workspace),
        output,
        max_steps=given.steps,
        num_generations=given.rollouts,
        per_device_train_batch_size=given.rollouts,
        max_completion_length=given.tokens,
        learning_rate=given.learning_rate,
        logging_steps=1,
        save_strategy="no",
        bf16=torch.cuda.is_available(),
    )
    trainer.train()
    trainer.save_model(str(output))
    print(f"{given.steps} steps of SRPO by TRL: {output}")


if __name__ == "__main__":
    main()
