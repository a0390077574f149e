"""LLaMA-Factory's first step with us: two steps of the curriculum, really trained, on made-up rows."""

import json
from pathlib import Path

from llamafactory.train.tuner import run_exp

from gream_ext.corpus.files import write_dataset_info
from gream_ext.errors import GreamError
from gream_ext.plugins.first_step import ITEMS, chat, write_model
from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.workspace import Workspace


def take(folder: Path) -> None:
    """Train two steps with the curriculum, one of each kind, by the function that LLaMA-Factory's launcher calls."""
    workspace = Workspace(folder)
    write_model(workspace.model("base_model"))
    workspace.corpus.mkdir()
    for kind, path in {"align": workspace.align, "reason": workspace.reason}.items():
        rows = [{"kind": kind, "messages": chat(item, ITEMS[-1 - place])} for place, item in enumerate(ITEMS[:2])]
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
