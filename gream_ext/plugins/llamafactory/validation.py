"""Recall@10 on validation users while LLaMA-Factory trains, by our own direct mode; the best model is what is kept.

The users of a sample, the same in every run, are shared out over the processes. What is trained does not depend on
being measured: weights, order and random numbers are the same as without.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import distributed
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.corpus.prompts import direct_messages, history_text
from gream_ext.data.histories import evaluation_cases
from gream_ext.decoding.beam import search
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.trie import ItemTrie
from gream_ext.evaluation.metrics import MISSED, ndcg_at, recall_at
from gream_ext.inference.engines.transformers import TOKENS_AT_ONCE, batches
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.llamafactory.log import BEST, MEASURED, measured
from gream_ext.plugins.llamafactory.template import Probe, trained
from gream_ext.workspace import Workspace, whole

CUTOFF = 10
BEAMS = 20
"""As `gream evaluate` has it."""
MEASUREMENTS = 10
"""In a run, unless ``gream_validate_steps`` says otherwise."""


class Validation(TrainerCallback):
    """Measures, keeps the weights of the best measurement, and puts them into the model when the training ends."""

    def __init__(self, trainer: Any, workspace: Workspace):
        keys, args = trainer.finetuning_args, trainer.args
        self.trainer = trainer
        self.steps: int | None = keys.gream_validate_steps
        self.patience: int = keys.gream_validate_patience
        self.best_file = Path(args.output_dir, BEST)
        self.best: dict[str, float] = {}
        cases = evaluation_cases(workspace, "valid")
        chosen = np.random.default_rng(0).permutation(len(cases))[: keys.gream_validate_users]
        self.users = len(chosen)
        index = ItemIndex.load(workspace.item_index)
        self.trie = ItemTrie.from_index(index, trainer.processing_class)
        self.targets, self.prompts = [], []
        how, template = read_prompt_settings(workspace), trainer.data_collator.template
        for case in (cases[number] for number in chosen[args.process_index :: args.world_size]):
            asked = direct_messages(history_text(index, case.history, how.direct_window), words=how.words)
            prompt, lead, _ = trained(template, trainer.processing_class, Probe(tuple(asked), index.text(case.target)))
            self.prompts.append([*prompt, *lead])
            self.targets.append(index.position[case.target])

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.every = self.steps or math.ceil(state.max_steps / MEASUREMENTS)
        if state.global_step and self.best_file.exists():
            with safe_open(self.best_file, "pt") as file:
                self.best = {name: float(value) for name, value in file.metadata().items()}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return
        start = time.monotonic()
        found = self.measure()
        better = not self.best or _order(found) > _order(self.best)
        if better:
            self.best = {**found, "step": state.global_step}
        self.trainer.log(dict(found))
        if state.is_world_process_zero:
            if better:
                self.keep()
            error = (found[MEASURED[0]] * (1 - found[MEASURED[0]]) / self.users) ** 0.5
            tqdm.write(
                f"validation, step {state.global_step} of {state.max_steps}: {measured(found)} (± {error:.4f}, "
                f"{self.users} users, {time.monotonic() - start:.1f} s){', the best so far' if better else ''}"
            )
        orders = [_order(entry) for entry in state.log_history if MEASURED[0] in entry]
        if self.patience and len(orders) - 1 - orders.index(max(orders)) >= self.patience:
            control.should_training_stop = True

    def measure(self) -> dict[str, float]:
        """Mean Recall@10 and NDCG@10 of all users, over all processes."""
        places = np.full(len(self.prompts), MISSED)
        with as_it_was(self.trainer.model) as model:
            asked = LanguageModel(model)
            steps = BEAMS * (self.trie.levels - 1)
            for some in batches(list(map(len, self.prompts)), steps, TOKENS_AT_ONCE):
                # Not static: no CUDA graph is captured beside what the processes of the training send each other.
                found = search(asked, self.trie, [self.prompts[number] for number in some], BEAMS, static=False)
                for number, ranking in zip(some, found, strict=True):
                    at = np.flatnonzero(ranking.rows == self.targets[number])
                    places[number] = at[0] if len(at) else MISSED
        sums = [recall_at(places, CUTOFF).sum(), ndcg_at(places, CUTOFF).sum()]
        every = self.trainer.accelerator.reduce(torch.tensor(sums, dtype=torch.float64, device=model.device), "sum")
        return dict(zip(MEASURED, (every / self.users).tolist(), strict=True))

    def keep(self) -> None:
        """Write what is trained of the model: all of it, or with LoRA the adapter."""
        weights = {name: one.detach().cpu().contiguous() for name, one in self._trained().items()}
        with whole(self.best_file) as draft:
            save_file(weights, draft, {name: repr(value) for name, value in self.best.items()})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self.best:
            return
        if state.is_world_process_zero:
            with safe_open(self.best_file, "pt") as file:
                for name, one in self._trained().items():
                    one.data.copy_(file.get_tensor(name))
            tqdm.write(f"validation: the model is that of step {self.best['step']:.0f}, {measured(self.best)}")
        if distributed.is_initialized():
            for one in self._trained().values():
                distributed.broadcast(one.data, 0)

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {name: one for name, one in self.trainer.model.named_parameters() if one.requires_grad}


def _order(found: Mapping[str, float]) -> tuple[float, ...]:
    """What makes one measurement better than another: recall, and between equal ones NDCG."""
    return tuple(found[name] for name in MEASURED)


@contextmanager
def as_it_was(model: Any) -> Iterator[Any]:
    """The model as decoding wants it, and afterwards as the trainer left it.

    That is in evaluation mode and without accelerate's wrapper of its forward call, whose number format the layers
    below would not share.
    """
    training = [module for module in model.modules() if module.training]
    wrapped = {name: vars(model)[name] for name in ("forward", "_original_forward") if name in vars(model)}
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        try:
            if len(wrapped) == 2:
                model.forward = wrapped["_original_forward"]
            model.eval()
            yield model
        finally:
            vars(model).update(wrapped)
            for module in training:
                module.training = True
