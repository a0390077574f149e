"""The way to each framework's first step with us, gone on a handful of made-up rows: what `gream doctor` finds out.

All names that we rely on can be there and the first step still fail, for frameworks import other packages when they
are used. So LLaMA-Factory really trains two steps of the curriculum, and Verl reads prompts, scores answers and
computes the advantages of a group, each as its trainer does. On the CPU, in seconds, within a folder of their own.
"""

import importlib
import json
from pathlib import Path
from typing import Any

from gream_ext.base_model.scratch import Shape, small_qwen3
from gream_ext.base_model.tokenizer import add_ordinary_tokens, chat_tokenizer, train_bpe
from gream_ext.corpus.files import write_dataset_info
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace

ITEMS = [f"<|a_{first}|><|b_{second}|>" for first in range(4) for second in range(4)]
TOKENS = [f"<|{level}_{code}|>" for level in "ab" for code in range(4)]
DRIVER = "libcuda.so"
"""The library that comes with a GPU's driver and with nothing else."""


def sentence(error: BaseException) -> str:
    """What went wrong, in one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in said if DRIVER in line] or said
    return str(error) if isinstance(error, GreamError) else f"{type(error).__name__}: {named[0] if named else ''}"


def llamafactory(folder: Path) -> None:
    """Train two steps with the curriculum, one of each kind, by the function that LLaMA-Factory's launcher calls."""
    from llamafactory.train.tuner import run_exp

    from gream_ext.plugins.llamafactory.log import read_log

    workspace = Workspace(folder)
    _write_model(workspace.model("base_model"))
    workspace.corpus.mkdir()
    for kind, path in {"align": workspace.align, "reason": workspace.reason}.items():
        rows = [{"kind": kind, "messages": _chat(item, ITEMS[-1 - place])} for place, item in enumerate(ITEMS[:2])]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_dataset_info(workspace)
    run_exp({
        "model_name_or_path": str(workspace.model("base_model")), "template": "qwen3_nothink", "stage": "sft",
        "finetuning_type": "full", "dataset_dir": str(workspace.corpus), "dataset": "align,reason", "cutoff_len": 64,
        "overwrite_cache": True, "output_dir": str(workspace.model("sft")), "do_train": True, "num_train_epochs": 1,
        "per_device_train_batch_size": 2, "use_cpu": True, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "gream_curriculum": True, "gream_curriculum_epochs": 1, "seed": 1,
    })  # fmt: skip
    kinds = sorted(step["kind"] for step in read_log(workspace.model("sft")))
    if kinds != ["align", "reason"]:
        raise GreamError(f"two steps, one of each kind, were to be trained, and {kinds} were: install gream-ext again")


def verl(folder: Path) -> None:
    """Compose ``+gream=srpo``; read prompts, score answers and compute advantages with what it configures."""
    import numpy as np
    import polars as pl
    import torch
    import verl as framework
    from hydra import compose, initialize_config_dir
    from verl import DataProto
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    trainer = importlib.import_module("verl.trainer.ppo.ray_trainer")
    importlib.import_module("verl.trainer.main_ppo")
    importlib.import_module("gream_ext.plugins.verl.filter")
    with initialize_config_dir(str(Path(framework.__file__).parent / "trainer" / "config"), version_base=None):
        config: Any = compose("ppo_trainer", ["+gream=srpo", f"workspace={json.dumps(str(folder))}"])

    target, wrong = f"<answer>{ITEMS[0]}</answer>", f"<answer>{ITEMS[1]}</answer>"
    truth = {"style": "rule", "ground_truth": ITEMS[0]}
    prompts = [{"prompt": _chat(item)[:1], "data_source": "gream", "reward_model": truth,
                "extra_info": {"mode": "reason", "index": place}} for place, item in enumerate(ITEMS)]  # fmt: skip
    path = folder / "train.parquet"
    pl.DataFrame(prompts).write_parquet(path)
    tokenizer = _write_model(folder / "model")
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


def _chat(item: str, answer: str = "") -> list[dict[str, str]]:
    return [{"role": "user", "content": f"history: {item}"}, {"role": "assistant", "content": f"next: {answer}"}]


def _write_model(folder: Path) -> Any:
    """A model of a few thousand random weights, and its tokenizer, which is returned."""
    tokenizer = chat_tokenizer(train_bpe(["history: ", "next: "], 300, across_words=False), 64)
    add_ordinary_tokens(tokenizer, TOKENS)
    shape = Shape(16, 1, 4, 2, 16, attention_dropout=0.0, tied=True, longest=64)
    small_qwen3(tokenizer, shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
