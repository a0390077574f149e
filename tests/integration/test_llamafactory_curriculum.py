"""The curriculum in LLaMA-Factory's own trainer: order, log, kill and resume, two processes, the path without a hook.

Each start of LLaMA-Factory takes seconds, so all runs are made once, and most of them share a process.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gream_ext.curriculum import KINDS, PHASES, Curriculum, CurriculumSettings
from gream_ext.plugins.llamafactory.export import corpus_files, corpus_tags, export
from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.workspace import Workspace
from tests.support.tiny_sft import (
    losses,
    make_model,
    make_rows,
    settings,
    train,
    train_all,
    train_and_kill,
    write_corpus,
)

CURRICULUM = {"gream_curriculum": True, "gream_seed": 5}
FILE_ORDER = {**CURRICULUM, "gream_sort_rows": False}
SAVING = {"save_strategy": "steps", "save_steps": 5, "save_total_limit": 2}
TWO = {"gradient_accumulation_steps": 1, "dataloader_num_workers": 1}
"""On two processes: as many rows in a step as on one, with accumulation."""


@dataclass(frozen=True)
class Runs:
    root: Path

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def keys(self, name: str, **keys: Any) -> dict[str, Any]:
        """4 rows a step."""
        return settings(self.root / "model", self.root / "corpus", self.root / name, **keys)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Models, one with dropout, and a corpus whose alignment rows are drawn afresh for each epoch, unequally many."""
    root = tmp_path_factory.mktemp("curriculum")
    make_model(root / "model")
    make_model(root / "dropout", dropout=0.1)
    align = [row for epoch, count in ((1, 51), (2, 54), (3, 50)) for row in make_rows("align", count, epoch)]
    write_corpus(root / "corpus", align + make_rows("align", 6), make_rows("reason", 22))
    return Runs(root)


@pytest.fixture(scope="module")
def runs(prepared: Runs) -> Runs:
    """On one process: everything with our hook, after a run that was killed."""
    dropout = {**CURRICULUM, "model_name_or_path": str(prepared["dropout"])}
    killed = prepared.keys("killed", **dropout, **SAVING)
    train_and_kill(killed, checkpoint=25)
    unfinished = prepared["killed"] / "checkpoint-9999"  # a kill while saving
    unfinished.mkdir()
    shutil.copy(prepared["model"] / "model.safetensors", unfinished)
    train_all([
        killed,
        prepared.keys("not_killed", **dropout),
        prepared.keys("reference", **FILE_ORDER),
        prepared.keys("sorted", **CURRICULUM),
        prepared.keys("plain", dataset="align_plain,reason_plain"),
        prepared.keys("off"),
        prepared.keys("packed", **CURRICULUM, packing=True, neat_packing=True, cutoff_len=64, dataloader_num_workers=1),
        prepared.keys("micro", **CURRICULUM, gream_batch_unit="micro", gream_curriculum_epochs=1, num_train_epochs=2,
                      gream_uniform_unit="sample", gream_gamma=4, max_steps=30),
        prepared.keys("replay", **CURRICULUM, gream_align_share=0.25, gream_curriculum_epochs=0, num_train_epochs=2),
        prepared.keys("general", **CURRICULUM, dataset="general,align,reason", gream_general_share=0.2),
        prepared.keys("direct", **CURRICULUM, dataset="align", gream_curriculum_epochs=0, num_train_epochs=2),
        prepared.keys("reason", **CURRICULUM, dataset="reason", gream_curriculum_epochs=0, num_train_epochs=2),
    ])  # fmt: skip
    return prepared


@pytest.fixture(scope="module")
def without_hook(prepared: Runs) -> Runs:
    files = corpus_files(Workspace(prepared.root))
    curriculum = Curriculum(*corpus_tags(files), CurriculumSettings(epochs=3, batch_rows=4, seed=5))
    export(files, curriculum, prepared["exported"])
    ordered = {"dataset_dir": str(prepared["exported"]), "dataset": "ordered", "disable_shuffling": True}
    train_all(
        [
            prepared.keys("plain_without_hook", dataset="align_plain,reason_plain"),
            prepared.keys("oracle", **ordered, num_train_epochs=1),
        ],
        GREAM_LLAMAFACTORY="0",
    )
    return prepared


@pytest.fixture(scope="module")
def two_processes(prepared: Runs) -> Runs:
    if " " in sys.executable:
        pytest.skip("llamafactory-cli splits its torchrun command at blanks; test_launch.py has our way around it")
    dropout = {**CURRICULUM, **TWO, "model_name_or_path": str(prepared["dropout"])}
    killed = prepared.keys("killed2", **dropout, **SAVING)
    train_and_kill(killed, checkpoint=30, processes=2)
    train(killed, processes=2)
    train(prepared.keys("not_killed2", **dropout), processes=2)
    return prepared


def columns(output: Path, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(record[name] for name in names) for record in read_log(output)]


def planned(runs: Runs, name: str) -> Curriculum:
    """The curriculum that a run on the corpus says it followed."""
    about = json.loads((runs[name] / "curriculum.json").read_text())
    return Curriculum(*corpus_tags(corpus_files(Workspace(runs.root))), CurriculumSettings(**about["settings"]))


def test_steps_are_those_of_the_plan_and_hold_one_kind(runs: Runs) -> None:
    curriculum = planned(runs, "reference")
    plan = curriculum.plan
    # 15 + 6, 15 + 6 and 14 + 6 batches, and one to even them out
    assert [len(epoch) for epoch in curriculum.epoch_plans] == [21, 21, 20] and len(plan) == 63
    expected = [(i + 1, int(plan.epoch[i]), KINDS[plan.kind[i]], PHASES[plan.phase[i]]) for i in range(63)]
    assert columns(runs["reference"], "step", "epoch", "kind", "phase") == expected
    assert columns(runs["reference"], "planned") == [(None if np.isnan(p) else p,) for p in plan.planned]
    rows = {"align": (4, 0), "reason": (0, 4)}
    assert columns(runs["reference"], "align_rows", "reason_rows") == [rows[kind] for _, _, kind, _ in expected]


def test_logged_loss_is_the_trainers(runs: Runs) -> None:
    logged = [loss for (loss,) in columns(runs["reference"], "loss")]
    assert logged == pytest.approx(losses(runs["reference"]), rel=1e-5) and logged[-1] < logged[0]


def test_after_kill_it_goes_on_with_the_batches_that_were_left(runs: Runs) -> None:
    assert read_log(runs["killed"]) == read_log(runs["not_killed"])
    assert not list(runs["killed"].glob("*9999*")) and not list(runs["killed"].glob(".unfinished*"))


def test_on_two_processes_after_kill_too(two_processes: Runs) -> None:
    assert read_log(two_processes["killed2"]) == read_log(two_processes["not_killed2"])


def test_two_processes_train_the_same_steps_as_one(runs: Runs, two_processes: Runs) -> None:
    told = ("step", "kind", "planned", "align_rows", "reason_rows")
    assert columns(runs["not_killed"], *told) == columns(two_processes["not_killed2"], *told)
    one, two = (np.array(columns(runs[name], "loss")) for name in ("not_killed", "not_killed2"))
    assert one == pytest.approx(two, rel=0.02)  # dropout differs


def test_sorting_the_rows_of_a_step_changes_no_step(runs: Runs) -> None:
    one, two = (np.array(columns(runs[name], "loss")) for name in ("reference", "sorted"))
    assert one == pytest.approx(two, rel=1e-4)


def test_without_our_keys_losses_are_those_without_our_hook(runs: Runs, without_hook: Runs) -> None:
    assert losses(runs["plain"]) == losses(without_hook["plain_without_hook"])
    assert not (runs["plain"] / "curriculum_log.jsonl").exists()


def test_rows_with_our_tags_train_without_the_curriculum(runs: Runs) -> None:
    assert losses(runs["off"]) == losses(runs["plain"])
    assert not (runs["off"] / "curriculum_log.jsonl").exists()


def test_all_epochs_in_one_file_give_the_same_batches_and_losses(runs: Runs, without_hook: Runs) -> None:
    assert losses(without_hook["oracle"]) == pytest.approx(losses(runs["reference"]), rel=1e-6)


def test_packs_hold_one_kind(runs: Runs) -> None:
    records = read_log(runs["packed"])
    about = json.loads((runs["packed"] / "curriculum.json").read_text())
    assert len(records) == about["steps"] and {record["kind"] for record in records} == {"align", "reason"}
    packs = about["rows"][0]
    assert packs["align"] < 57 / 2 and packs["reason"] < 22, "rows were packed"


def test_micro_batches_as_unit_and_samples_mixed(runs: Runs) -> None:
    curriculum = planned(runs, "micro")
    assert curriculum.settings.batch_rows == 2 and curriculum.settings.batches_per_step == 2
    records = read_log(runs["micro"])
    assert len(records) == 30, "max_steps"
    first = [record for record in records if record["epoch"] == 1]
    assert {"mixed", "align"} <= {record["kind"] for record in first}
    for step, record in enumerate(records):
        kinds = curriculum.plan.kind[2 * step : 2 * step + 2]
        if record["epoch"] == 1:
            assert (record["align_rows"], record["reason_rows"]) == (2 * sum(kinds == 0), 2 * sum(kinds == 1))
    uniform = [record for record in records if record["phase"] == "uniform"]
    assert any(record["align_rows"] % 2 for record in uniform), "rows are mixed one by one"


def test_replay_trains_a_share_of_the_alignment_rows(runs: Runs) -> None:
    about = json.loads((runs["replay"] / "curriculum.json").read_text())
    # A quarter of 51 (54) rows of the epoch and of 6 of every epoch; all reasoning rows.
    assert about["rows"] == [{"align": 13 + 2, "reason": 22}, {"align": 14 + 2, "reason": 22}]
    kinds = [kind for (kind,) in columns(runs["replay"], "kind")]
    assert (kinds.count("align"), kinds.count("reason")) == (4 + 4, 6 + 6)


def test_general_data_are_trained_among_the_alignment_rows(runs: Runs) -> None:
    about = json.loads((runs["general"] / "curriculum.json").read_text())
    # A quarter of the 57 + 22, 60 + 22 and 56 + 22 rows of the epochs
    assert about["rows"] == [{"align": 57 + 20, "reason": 22}, {"align": 60 + 20, "reason": 22},
                             {"align": 56 + 20, "reason": 22}]  # fmt: skip
    kinds = [kind for (kind,) in columns(runs["general"], "kind")]
    assert len(kinds) == about["steps"] and set(kinds) == {"align", "reason"}, "no step mixes kinds"


@pytest.mark.parametrize("kind", ["direct", "reason"])
def test_one_kind_alone_is_trained(runs: Runs, kind: str) -> None:
    records = read_log(runs[kind])
    assert {record["kind"] for record in records} == {{"direct": "align", "reason": "reason"}[kind]}
    assert len(records) == json.loads((runs[kind] / "curriculum.json").read_text())["steps"]
