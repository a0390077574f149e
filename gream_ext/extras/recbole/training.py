"""A model of RecBole on our splits, in every stated setting: its own data set, model and trainer; our choice of epoch.

    python -m gream_ext.extras.recbole.training JOB

A program for RecBole's environment: it imports RecBole, torch and numpy, and of ours only the metrics. ``JOB`` is a
folder that `gream_ext.extras.recbole.job` wrote; ``items.npy``, ``scores.npy`` and ``result.json`` come out beside it.
"""

import copy
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_dataset
from recbole.utils import get_model, get_trainer, init_logger, init_seed

from gream_ext.evaluation.metrics import MISSED, ndcg_at, recall_at

PRETRAINED = ("S3Rec",)
AT_ONCE = 512
"""Users that are scored together."""
TOLD = ("learning_rate", "train_batch_size", "MAX_ITEM_LIST_LENGTH", "epochs", "stopping_step", "loss_type")
"""Keys that are reported beside those of the model."""


@dataclass(frozen=True)
class Questions:
    """The users of one split: what RecBole's models are asked, and our numbers for its items."""

    rows: Any
    """RecBole's Interaction, one row a user, in the order of the split's file."""
    ours: np.ndarray
    """int64 [RecBole's items]: our number, or -1 for its padding."""
    seen: list[np.ndarray]
    """RecBole's item numbers of each user's whole history."""
    targets: np.ndarray
    """RecBole's item number of what is asked for: int64 [users]."""


@dataclass(frozen=True)
class Trained:
    model: Any
    test: Questions
    score: float
    """NDCG@10 of the validation users, in the best epoch."""
    told: dict[str, Any]
    config: dict[str, Any]


def main(folder: Path) -> None:
    """Train in every setting of ``job.json``, and recommend with the best of them by validation."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    trials: list[dict[str, Any]] = []
    best: Any = None
    for number, keys in enumerate(job["trials"]):
        begin = time.monotonic()
        trained = train(folder, job, keys, f"{job['model']} {number + 1}/{len(job['trials'])}")
        trials.append({"keys": keys, **trained.told, "seconds": round(time.monotonic() - begin, 1)})
        print(f"tried {json.dumps(trials[-1])}", flush=True)
        if best is None or trained.score > best.score:
            best, chosen = trained, number
    both = [top(best.model, best.test, job["recommendations"], exclude_seen) for exclude_seen in (False, True)]
    for name, parts in zip(("items", "scores"), zip(*both, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.stack(parts))  # [2, users, recommendations], -1 where fewer are left
    versions = {name: version(name) for name in ("recbole", "torch", "numpy", "pandas", "scipy")}
    result = {"chosen": chosen, "trials": trials, "config": best.config, "versions": versions}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def train(folder: Path, job: Mapping[str, Any], keys: Mapping[str, Any], name: str) -> Trained:
    """Train to the end of its patience and keep the epoch that validation users liked best."""
    os.chdir(folder)  # RecBole writes logs where it stands
    config = Config(model=job["model"], dataset="gream", config_dict={**job["keys"], **keys, **fixed(folder, job)})
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    dataset = create_dataset(config)
    train_set, valid_set, test_set = dataset.build()
    valid, test = (questions(folder, one, split) for one, split in ((valid_set, "valid"), (test_set, "test")))
    batches = TrainDataLoader(config, train_set, None, shuffle=True)
    model = get_model(config["model"])(config, batches._dataset).to(config["device"])
    # RecBole's SINE turns it on for all models when it is imported: every backward pass then looks for NaN and keeps
    # a stack trace for each operation. RecBole checks the loss itself.
    torch.autograd.set_detect_anomaly(False)
    # Weights that decay towards zero pass through numbers with which processors are slow: Caser's epochs grew fivefold.
    torch.set_flush_denormal(True)
    trainer = chosen_by(get_trainer(config["MODEL_TYPE"], config["model"]), valid, name)(config, model)
    if config["model"] in PRETRAINED:
        pretrain(trainer, batches, config["pretrain_epochs"], name)
    trainer.fit(batches, valid_data=batches, saved=True, verbose=False)  # that there is validation data is enough
    model.load_state_dict(trainer.best)
    model.eval()
    items, _ = top(model, valid, 10, exclude_seen=False)
    ranks = ranks_of(items, valid)
    told = {
        "epoch": trainer.best_epoch,
        "epochs": len(trainer.train_loss_dict),
        "ndcg@10": float(ndcg_at(ranks, 10).mean()),
        "recall@10": float(recall_at(ranks, 10).mean()),
        "parameters": sum(one.numel() for one in model.parameters()),
    }
    own = config.parameters.get("Model", [])
    said = [*TOLD, *own, *job["keys"], *keys]
    return Trained(model, test, trainer.best_valid_score, told, {key: plain(config[key]) for key in sorted(set(said))})


def fixed(folder: Path, job: Mapping[str, Any]) -> dict[str, Any]:
    """Keys that say where our files are, and that RecBole shall neither split, filter nor evaluate."""
    columns = {"inter": ["user_id", "item_id_list", "item_id"], "item": ["item_id", "class"]}
    return {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "alias_of_item_id": ["item_id_list"],
        "load_col": columns if job["attributes"] else {"inter": columns["inter"], "item": ["item_id"]},
        "MAX_ITEM_LIST_LENGTH": job["window"],
        "train_neg_sample_args": None,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
        "valid_metric": "NDCG@10",
        "use_gpu": job["gpu"],
        "seed": job["seed"],
        "reproducibility": True,
        "show_progress": False,
        "state": "WARNING",
    }


def chosen_by(trainer: type, valid: Questions, name: str) -> type:
    """RecBole's trainer with our validation, and with the best weights kept in memory, not in a pickle."""

    class Chosen(trainer):
        best: Mapping[str, torch.Tensor]
        best_epoch = 0
        tried = 0

        def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
            self.model.eval()
            items, _ = top(self.model, valid, 10, exclude_seen=False)
            score = float(ndcg_at(ranks_of(items, valid), 10).mean())
            self.tried += 1
            print(f"{name} epoch {self.tried}/{self.epochs} ndcg@10 {score:.4f}", flush=True)
            return score, {"ndcg@10": score}

        def _save_checkpoint(self, epoch: int, verbose: bool = True, **kwargs: Any) -> None:
            self.best, self.best_epoch = copy.deepcopy(self.model.state_dict()), epoch + 1

    return Chosen


def pretrain(trainer: Any, batches: Any, epochs: int, name: str) -> None:
    """S3-Rec's first stage; then its second, with the loss that RecBole gives a model that loads pretrained weights."""
    for epoch in range(epochs):
        loss = trainer._train_epoch(batches, epoch)
        print(f"{name} pretraining {epoch + 1}/{epochs} loss {loss:.1f}", flush=True)
    trainer.model.train_stage = "finetune"
    trainer.model.loss_fct = torch.nn.CrossEntropyLoss()
    trainer.optimizer = trainer._build_optimizer(params=trainer.model.parameters())


def questions(folder: Path, split_set: Any, split: str) -> Questions:
    numbers = split_set.field2token_id["item_id"]
    ours = np.full(split_set.item_num, -1, dtype=np.int64)
    for token, number in numbers.items():
        if token != "[PAD]":
            ours[number] = int(token)
    theirs = np.zeros(len(ours), dtype=np.int64)
    theirs[ours[1:]] = np.arange(1, len(ours))
    flat, ends = np.load(folder / f"{split}.seen.npy"), np.load(folder / f"{split}.ends.npy")
    seen = [theirs[part] for part in np.split(flat, ends[:-1])]
    return Questions(split_set.inter_feat, ours, seen, split_set.inter_feat["item_id"].numpy())


@torch.no_grad()
def top(model: Any, asked: Questions, count: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
    """The best items of every user of the whole catalogue, as our numbers, and their scores: [users, count]."""
    items = np.full((len(asked.seen), count), -1, dtype=np.int32)
    values = np.full((len(asked.seen), count), -np.inf, dtype=np.float32)
    for begin in range(0, len(asked.seen), AT_ONCE):
        rows = asked.rows[begin : begin + AT_ONCE].to(model.device)
        scores = model.full_sort_predict(rows).view(len(rows), -1)[:, : len(asked.ours)].float().cpu()
        scores[:, 0] = -torch.inf  # padding
        if exclude_seen:
            for row, seen in enumerate(asked.seen[begin : begin + AT_ONCE]):
                scores[row, torch.from_numpy(seen)] = -torch.inf
        best, columns = scores.topk(min(count, scores.shape[1]), dim=1)
        some = np.where(best.isfinite().numpy(), asked.ours[columns.numpy()], -1)
        items[begin : begin + len(rows), : some.shape[1]] = some
        values[begin : begin + len(rows), : some.shape[1]] = best.numpy()
    return items, values


def ranks_of(items: np.ndarray, asked: Questions) -> np.ndarray:
    """The rank of each user's target, as `gream_ext.evaluation.metrics.ranks` counts it."""
    found = items == asked.ours[asked.targets][:, None]
    return np.where(found.any(1), found.argmax(1), MISSED)


def plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


if __name__ == "__main__":
    main(Path(sys.argv.pop(1)).resolve())  # RecBole reads what is left of the command line
