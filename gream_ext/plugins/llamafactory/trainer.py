"""LLaMA-Factory's trainer with the order of the curriculum, and its log."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llamafactory.train.sft.trainer import CustomSeq2SeqTrainer
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from gream_ext.curriculum import ALIGN, KINDS, MIXED, PHASES, REASON, Curriculum, CurriculumSampler
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.log import PLAN_NAME, append_log, start_log, tracked
from gream_ext.plugins.llamafactory.rows import COUNTS, EPOCH, KIND, LENGTH, row_tags
from gream_ext.plugins.llamafactory.shares import drawn
from gream_ext.plugins.llamafactory.validation import Validation
from gream_ext.workspace import Workspace, read_json, write_json

FLUSH_STEPS = 50
"""So many steps are gathered over the processes at once, to spare a synchronisation in each."""


class CurriculumTrainer(CustomSeq2SeqTrainer):
    """Trains as its parent does, in the order of the curriculum if ``gream_curriculum`` is on."""

    curriculum_run: "CurriculumRun | None" = None

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.args.do_train and getattr(self.finetuning_args, "gream_validate_users", 0):
            self.add_callback(Validation(self, Workspace(self.finetuning_args.gream_workspace)))

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        if not getattr(self.finetuning_args, "gream_curriculum", False):
            return super()._get_train_sampler(*args, **kwargs)
        dataset = args[0] if args and args[0] is not None else self.train_dataset
        if self.curriculum_run is not None:
            self.remove_callback(self.curriculum_run)
        self.curriculum_run = CurriculumRun(self, _curriculum(self, dataset))
        self.add_callback(self.curriculum_run)
        return self.curriculum_run.sampler

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        counts = inputs.pop(COUNTS, None)
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.curriculum_run is not None:
            self.curriculum_run.add(loss, counts)
        return loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """To the trackers of ``report_to`` with the curriculum's metrics since the last time."""
        if self.curriculum_run is not None and "loss" in logs:
            logs.update(self.curriculum_run.take_tracked())
        super().log(logs, *args, **kwargs)

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        inputs.pop(COUNTS, None)
        return super().prediction_step(model, inputs, *args, **kwargs)


def _curriculum(trainer: CurriculumTrainer, dataset: Any) -> Curriculum:
    keys, args = trainer.finetuning_args, trainer.args
    missing = {KIND, EPOCH, LENGTH} - set(dataset.column_names)
    if missing:
        raise GreamError(
            "gream_curriculum: the training data do not say which rows are alignment and which reasoning data: "
            "give each dataset formatting gream_align or gream_reason in dataset_info.json, and tokenize again"
        )
    settings = keys.order(
        epochs=int(args.num_train_epochs),
        step_rows=trainer.get_total_train_batch_size(args),
        accumulated=args.gradient_accumulation_steps,
        data_seed=args.data_seed,
        seed=args.seed,
    )
    kinds, epochs, lengths = row_tags(dataset)
    kinds, epochs = drawn(kinds, epochs, keys, settings.epochs, settings.seed)
    return Curriculum(kinds.astype(np.int8), epochs, settings, lengths if keys.gream_sort_rows else None)


@cache
def _load_checkpoints_on_several_cpu_processes() -> None:
    """Let torch read an optimizer's state onto "cpu:0", which is what accelerate calls the CPU of process 0.

    Without it transformers 5.5 cannot resume a CPU run of several processes: torch knows "cpu" only. A
    later registration replaces none of torch's own; it is asked for what they left.
    """

    def deserialize(storage: Any, location: str) -> Any:
        return storage if location.startswith("cpu:") else None

    torch.serialization.register_package(1_000, lambda storage: None, deserialize)


class CurriculumRun(TrainerCallback):
    """Tells the sampler which share is next, and logs what was planned and what was trained in each step."""

    def __init__(self, trainer: CurriculumTrainer, curriculum: Curriculum):
        _load_checkpoints_on_several_cpu_processes()
        self.trainer = trainer
        self.curriculum = curriculum
        self.sampler = CurriculumSampler(curriculum)
        self.share_steps = curriculum.share_batches // curriculum.settings.batches_per_step
        self.output_dir = Path(str(trainer.args.output_dir))
        self.losses: list[torch.Tensor] = []
        self.counts: list[tuple[int, int]] = []
        self.finished: list[tuple[int, torch.Tensor]] = []
        self.untracked: list[dict[str, Any]] = []

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        planned = self.share_steps * self.curriculum.settings.epochs
        if state.max_steps > planned:
            raise GreamError(
                f"max_steps: {state.max_steps} is more than the {planned} steps of num_train_epochs: "
                f"{self.curriculum.settings.epochs}: raise num_train_epochs, or leave max_steps out"
            )
        plan = {
            "settings": vars(self.curriculum.settings),
            "rows": [dict(zip(KINDS, self.curriculum.row_counts(epoch + 1), strict=False))
                     for epoch in range(self.curriculum.settings.epochs)],
            "sorted_rows": self.curriculum.lengths is not None,
            "steps": planned,
        }  # fmt: skip
        if state.global_step:
            self._demand_same_plan(plan, state.global_step)
        if state.is_world_process_zero:
            write_json(self.output_dir / PLAN_NAME, plan)
            start_log(self.output_dir, state.global_step)

    def _demand_same_plan(self, plan: dict[str, Any], trained_steps: int) -> None:
        path = self.output_dir / PLAN_NAME
        old = read_json(path, "sft") if path.exists() else plan
        changed = ", ".join(key for key in plan if old.get(key) != plan[key])
        if changed:
            raise GreamError(
                f"cannot resume in {self.output_dir} at step {trained_steps}: {changed} of the curriculum differ "
                f"from those it was started with, see {PLAN_NAME}; set them back, or set overwrite_output_dir: true"
            )

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.sampler.epoch = state.global_step // self.share_steps

    def add(self, loss: torch.Tensor, counts: tuple[int, int] | None) -> None:
        """One forward pass of this process: its loss and its rows of each kind."""
        self.losses.append(loss.detach().float())
        self.counts.append(counts or (0, 0))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        rows = np.sum(self.counts, axis=0)
        self._demand_planned_kind(state.global_step, rows)
        loss = torch.stack(self.losses).sum()
        self.finished.append((state.global_step, torch.cat([loss[None], torch.tensor(rows).to(loss)])))
        self.losses, self.counts = [], []
        if len(self.finished) >= FLUSH_STEPS or control.should_save or control.should_log:
            self.flush(state)

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.flush(state)

    def _batches(self, step: int) -> slice:
        """Which batches of the plan step ``step``, from 1, trains."""
        size = self.curriculum.settings.batches_per_step
        return slice((step - 1) * size, step * size)

    def _demand_planned_kind(self, step: int, rows: np.ndarray) -> None:
        planned = np.unique(self.curriculum.plan.kind[self._batches(step)])
        if MIXED in planned:
            return
        trained = np.flatnonzero(rows)
        if not np.array_equal(planned, trained):
            raise GreamError(
                f"step {step} trained {[KINDS[kind] for kind in trained]} where the curriculum planned "
                f"{[KINDS[kind] for kind in planned]}: some option of the trainer changes the order of the data"
            )

    def flush(self, state: TrainerState) -> None:
        """Gather the steps since the last flush over all processes and append them to the log."""
        if not self.finished:
            return
        steps = [step for step, _ in self.finished]
        summed = self.trainer.accelerator.reduce(torch.stack([values for _, values in self.finished]), "sum").tolist()
        self.finished = []
        records = [self._record(step, *values) for step, values in zip(steps, summed, strict=True)]
        self.untracked += records
        if state.is_world_process_zero:
            append_log(self.output_dir, records)

    def take_tracked(self) -> dict[str, float]:
        """`tracked` of the steps since the last call; they were flushed, for a step that logs does so."""
        found, self.untracked = tracked(self.untracked), []
        return found

    def _record(self, step: int, loss: float, align_rows: float, reason_rows: float) -> dict[str, Any]:
        plan, batches = self.curriculum.plan, self._batches(step)
        planned = plan.planned[batches]
        kind = MIXED if align_rows and reason_rows else REASON if reason_rows else ALIGN
        return {
            "step": step,
            "epoch": int(plan.epoch[batches][0]),
            "kind": KINDS[kind],
            "phase": PHASES[plan.phase[batches][0]],
            "planned": None if np.isnan(planned).all() else float(np.nanmean(planned)),
            "loss": loss / self.trainer.args.world_size,
            "align_rows": int(align_rows),
            "reason_rows": int(reason_rows),
        }
