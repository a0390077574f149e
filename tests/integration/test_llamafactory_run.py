"""What the trainer's callback demands and logs, step by step, with the trainer's numbers given by hand."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gream_ext.curriculum import ALIGN, KINDS, PHASES, REASON, Curriculum, CurriculumSettings
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.llamafactory.log import BEST, MEASURED, read_log
from tests.support.synthetic import make_workspace
from tests.support.tiny_models import tiny_chat_model

KINDS_OF_ROWS = np.repeat([ALIGN, REASON], [20, 9])


def start(folder: Path, settings: CurriculumSettings, world_size: int = 1, max_steps: int = 0, step: int = 0) -> Any:
    from gream_ext.plugins.llamafactory.trainer import CurriculumRun

    curriculum = Curriculum(KINDS_OF_ROWS, np.zeros(len(KINDS_OF_ROWS), int), settings)
    trainer = SimpleNamespace(
        args=SimpleNamespace(output_dir=str(folder), world_size=world_size),
        accelerator=SimpleNamespace(reduce=lambda values, how: {"sum": values * world_size}[how]),
    )
    run = CurriculumRun(trainer, curriculum)  # type: ignore[arg-type]
    run.on_train_begin(trainer.args, state(step, max_steps), CONTROL)  # type: ignore[arg-type]
    return run


def state(step: int, max_steps: int = 0) -> Any:
    return SimpleNamespace(global_step=step, max_steps=max_steps, is_world_process_zero=True)


CONTROL: Any = SimpleNamespace(should_save=False, should_log=False)


def train(run: Any, steps: int, loss: float = 1.0) -> list[np.ndarray]:
    """The steps of the plan in order, as the sampler hands the rows out; returns the rows of each step."""
    settings, trained = run.curriculum.settings, []
    for step in range(1, steps + 1):
        if (step - 1) % run.share_steps == 0:
            run.on_epoch_begin(None, state(step - 1), CONTROL)
            rows = np.reshape(list(run.sampler), (-1, settings.batch_rows))
        first = (step - 1) % run.share_steps * settings.batches_per_step
        for batch in rows[first : first + settings.batches_per_step]:
            kinds = KINDS_OF_ROWS[batch]
            run.add(torch.tensor(loss), (int((kinds == ALIGN).sum()), int((kinds == REASON).sum())))
            trained.append(batch)
        run.on_step_end(None, state(step), CONTROL)
    run.on_epoch_end(None, state(steps), CONTROL)
    return trained


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_the_log_is_the_plan_and_the_losses(tmp_path: Path, passes: int, world_size: int) -> None:
    settings = CurriculumSettings(3, 2, curriculum_epochs=1, gamma=3.0, batches_per_step=passes, seed=1)
    run = start(tmp_path, settings, world_size)
    plan = run.curriculum.plan
    steps = len(plan) // passes
    train(run, steps, loss=0.5)
    log = read_log(tmp_path)
    assert [record["step"] for record in log] == list(range(1, steps + 1))
    for record, first in zip(log, range(0, len(plan), passes), strict=True):
        kinds, planned = plan.kind[first : first + passes], plan.planned[first : first + passes]
        assert record["loss"] == pytest.approx(0.5 * passes), "summed over the passes, averaged over the processes"
        assert record["align_rows"] == 2 * world_size * (kinds == ALIGN).sum()
        assert record["reason_rows"] == 2 * world_size * (kinds == REASON).sum()
        assert record["kind"] == (KINDS[kinds[0]] if len(set(kinds)) == 1 else "mixed")
        assert (record["epoch"], record["phase"]) == (plan.epoch[first], PHASES[plan.phase[first]])
        known = planned[~np.isnan(planned)]
        assert record["planned"] == (pytest.approx(known.mean()) if len(known) else None)


def test_the_log_is_written_now_and_then_not_only_at_the_end(tmp_path: Path) -> None:
    from gream_ext.plugins.llamafactory.trainer import FLUSH_STEPS

    run = start(tmp_path, CurriculumSettings(9, 1, seed=1))
    for step in range(1, FLUSH_STEPS + 3):
        kind = run.curriculum.plan.kind[step - 1]
        run.add(torch.tensor(1.0), (int(kind == ALIGN), int(kind == REASON)))
        told = SimpleNamespace(should_save=False, should_log=step == FLUSH_STEPS + 1)
        run.on_step_end(None, state(step), told)
        assert len(read_log(tmp_path)) == (0 if step < FLUSH_STEPS else min(step, FLUSH_STEPS + 1))


def test_a_step_of_another_kind_than_planned_ends_the_run(tmp_path: Path) -> None:
    run = start(tmp_path, CurriculumSettings(2, 2, seed=1))
    assert run.curriculum.plan.kind[0] == ALIGN
    run.add(torch.tensor(1.0), (1, 1))
    with pytest.raises(GreamError, match=r"step 1 trained .'align', 'reason'. where the curriculum planned .'align'.:"):
        run.on_step_end(None, state(1), CONTROL)


def test_more_steps_than_planned_are_refused_and_fewer_are_not(tmp_path: Path) -> None:
    settings = CurriculumSettings(2, 2, seed=1)
    planned = len(Curriculum(KINDS_OF_ROWS, np.zeros(29, int), settings).plan)
    start(tmp_path, settings, max_steps=planned)
    with pytest.raises(GreamError, match=rf"max_steps: {planned + 1} is more than the {planned} steps of num_train"):
        start(tmp_path, settings, max_steps=planned + 1)


def test_a_resumed_run_goes_on_with_the_share_that_it_was_in(tmp_path: Path) -> None:
    settings = CurriculumSettings(3, 2, curriculum_epochs=1, seed=4)
    whole = train(start(tmp_path, settings), 45)
    resumed = start(tmp_path, settings, step=20)
    assert [record["step"] for record in read_log(tmp_path)] == list(range(1, 21))
    resumed.on_epoch_begin(None, state(20), CONTROL)
    rows = np.reshape(list(resumed.sampler), (-1, 2))
    assert rows.tolist() == [batch.tolist() for batch in whole[resumed.share_steps : 2 * resumed.share_steps]]
    about = json.loads((tmp_path / "curriculum.json").read_text())
    assert about["steps"] == 45 and about["sorted_rows"] is False and about["rows"][0] == {"align": 20, "reason": 9}
    with pytest.raises(GreamError, match=r"cannot resume in .* at step 20: settings of the curriculum differ"):
        start(tmp_path, CurriculumSettings(3, 2, curriculum_epochs=1, seed=5), step=20)


def test_an_interrupted_training_goes_on_with_the_best_model_so_far(tmp_path: Path) -> None:
    """Measured, then worse weights in a new process: what is left at the end are the measured ones."""
    from llamafactory.data.template import TEMPLATES

    from gream_ext.plugins.llamafactory.validation import Validation

    workspace = make_workspace(tmp_path / "run", users=12, items=20)
    model, tokenizer = tiny_chat_model(ItemIndex.load(workspace.item_index))
    entries: list[dict[str, float]] = []
    trainer = SimpleNamespace(
        model=model,
        processing_class=tokenizer,
        data_collator=SimpleNamespace(template=TEMPLATES["qwen3_nothink"]),
        args=SimpleNamespace(output_dir=str(tmp_path), process_index=0, world_size=1),
        finetuning_args=SimpleNamespace(gream_validate_users=99, gream_validate_steps=None, gream_validate_patience=2),
        accelerator=SimpleNamespace(reduce=lambda values, how: values),
        log=entries.append,
    )

    def at(step: int) -> Any:
        return SimpleNamespace(global_step=step, max_steps=40, is_world_process_zero=True, log_history=entries)

    def step_of(run: Any, step: int) -> bool:
        control = SimpleNamespace(should_training_stop=False)
        run.on_step_end(trainer.args, at(step), control)
        return control.should_training_stop

    before = {name: one.clone() for name, one in model.named_parameters()}
    run = Validation(trainer, workspace)
    run.on_train_begin(trainer.args, at(0), CONTROL)  # type: ignore[arg-type]
    model.train()
    step_of(run, 3)
    assert not entries, "every fourth step is a tenth of forty"
    assert not step_of(run, 4) and all(0 <= entries[0][name] <= 1 for name in MEASURED)
    assert all(module.training for module in model.modules()) and (tmp_path / BEST).exists()

    with torch.no_grad():
        for one in model.parameters():
            one.zero_()
    again = Validation(trainer, workspace)
    again.on_train_begin(trainer.args, at(4), CONTROL)  # type: ignore[arg-type]
    assert again.best == {**entries[0], "step": 4}
    again.best[MEASURED[0]] = 2.0  # nothing is better than that
    entries[0][MEASURED[0]] = 2.0
    assert not step_of(again, 8) and step_of(again, 40), "two in a row without a better one are enough"
    again.on_train_end(trainer.args, at(40), CONTROL)  # type: ignore[arg-type]
    assert all(torch.equal(one, before[name]) for name, one in model.named_parameters())
