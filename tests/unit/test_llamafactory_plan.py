"""``gream curriculum plan``: the drawing, the JSON, the exported rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gream_ext.corpus.files import dataset_info_path, write_dataset_info
from gream_ext.curriculum import Curriculum, CurriculumSettings, curriculum_epoch, uniform_epoch
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.commands import run
from gream_ext.plugins.llamafactory.export import corpus_files, corpus_tags
from gream_ext.plugins.llamafactory.plan import drawn_share, planned_share
from gream_ext.plugins.llamafactory.stages import PlanSettings
from gream_ext.workspace import Workspace


def write_corpus(workspace: Workspace, align: int, reason: int) -> None:
    """Alignment row i belongs to epoch i % 3, 0 meaning every epoch; the text of a row is its number."""
    workspace.corpus.mkdir(parents=True)
    for path, count, tagged in ((workspace.align, align, True), (workspace.reason, reason, False)):
        rows: list[dict[str, Any]] = [
            {"messages": [{"role": "user", "content": f"{path.stem} ü {i}"}]} for i in range(count)
        ]
        for i, row in enumerate(rows):
            if tagged and i % 3:
                row["epoch"] = i % 3
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_draws_numbers(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(workspace, PlanSettings(align_rows=640_000, reason_rows=192_000, batch_rows=64, width=40))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Epoch 1 of 3: 10,000 align + 3,000 reason batches, 2,")
    assert "(2,250.2 expected)" in lines[0]
    for line, name in zip(lines[1:3], ("planned", "drawn"), strict=True):
        bar = line.split("│")[1]
        assert name in line and len(bar) == 40 and bar[0] == " " and bar[-1] == "█"
    assert lines[8] == "Epoch 3 of 3: 10,000 align + 3,000 reason batches, in a random order"
    assert lines[-1] == "39,000 batches in all"
    assert not workspace.root.exists()


def test_what_is_drawn_is_what_was_planned_but_for_chance() -> None:
    rng = np.random.default_rng(0)
    inserting = curriculum_epoch(10_000, 3_000, 1.5, rng)
    batches = uniform_epoch(7_000, 3_000, 0, 0.3, rng)
    for plan in (inserting, batches):
        for cell in np.array_split(np.arange(len(plan)), 4):
            assert planned_share(plan, cell) == pytest.approx(drawn_share(plan, cell), abs=0.03)
    mixed = uniform_epoch(0, 0, 500, 0.3, rng)
    assert planned_share(mixed, np.arange(500)) == pytest.approx(0.3) == drawn_share(mixed, np.arange(500))


def test_json_is_the_order_of_the_corpus(workspace: Workspace, tmp_path: Path) -> None:
    write_corpus(workspace, align=30, reason=9)
    run(workspace, PlanSettings(batch_rows=4, epochs=2, curriculum_epochs=1, json=tmp_path / "plan.json"))
    plan = json.loads((tmp_path / "plan.json").read_text())
    first, last = plan["epochs"]
    assert first["batches"] == {"align": 5, "reason": 3} and len(first["order"]) == 8
    assert first["inserted"] + first["left_over"] == 3 and first["order"].replace("r", "") == "aaaaa"
    assert "inserted" not in last and sorted(last["order"]) == sorted(first["order"])
    assert (plan["batches"], plan["filled"]) == (16, 0)


def test_export_writes_the_rows_as_the_sampler_hands_them_out(workspace: Workspace, tmp_path: Path) -> None:
    write_corpus(workspace, align=30, reason=9)
    run(workspace, PlanSettings(batch_rows=4, epochs=2, curriculum_epochs=1, seed=3, export=tmp_path / "exported"))
    curriculum = Curriculum(
        *corpus_tags(corpus_files(workspace)), CurriculumSettings(2, 4, curriculum_epochs=1, seed=3)
    )
    order = np.concatenate([batch for share in range(2) for batch in curriculum.share(share)])
    names = [*(f"align ü {i}" for i in range(30)), *(f"reason ü {i}" for i in range(9))]
    rows = [json.loads(line) for line in (tmp_path / "exported" / "ordered.jsonl").read_text("utf-8").splitlines()]
    assert [row["messages"][0]["content"] for row in rows] == [names[row] for row in order]
    info = json.loads((tmp_path / "exported" / "dataset_info.json").read_text())["ordered"]
    assert info["formatting"] == "sharegpt" and info["file_name"] == "ordered.jsonl"
    with pytest.raises(GreamError, match="is not empty"):
        run(workspace, PlanSettings(batch_rows=4, epochs=2, curriculum_epochs=1, export=tmp_path / "exported"))


@pytest.mark.parametrize(
    ("chosen", "rows", "told"),
    [
        ({}, 32, "sft_curriculum: 32 rows a batch: 32 a device × 1 process × 1 accumulation step"),
        ({"processes": 2}, 64, "sft_curriculum: 64 rows a batch: 32 a device × 2 processes × 1 accumulation step"),
        ({"recipe": "sft_lora_24gb"}, 64, "sft_lora_24gb: 64 rows a batch: 2 a device × 1 process × 32 accum"),
        (
            {"recipe": "sft_paper_qwen3_4b", "processes": 24},
            192,
            "sft_paper_qwen3_4b: 192 rows a batch: 8 a device × 24",
        ),
        (
            {"overrides": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, "processes": 2},
            32,
            "sft_curriculum: 32 rows a batch: 8 a device × 2 processes × 2 accumulation steps",
        ),
        (
            {"overrides": {"gream_batch_unit": "micro", "gradient_accumulation_steps": 2}},
            32,
            "sft_curriculum: 32 rows a batch: 32 a device × 1 process\n",
        ),
    ],
)
def test_a_batch_is_the_recipes(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], chosen: dict[str, Any], rows: int, told: str
) -> None:
    run(workspace, PlanSettings(align_rows=rows * 7, reason_rows=rows * 2, **chosen))
    said = capsys.readouterr().out
    assert said.startswith(told) and "Epoch 1 of 3: 7 align + 2 reason batches" in said


def test_the_plan_follows_the_schedule_of_the_recipe(workspace: Workspace, tmp_path: Path) -> None:
    write_corpus(workspace, align=96, reason=64)  # 32 rows of alignment data in every epoch, 32 more in 1 and 2 each

    def planned(recipe: str, **chosen: Any) -> list[dict[str, int]]:
        run(workspace, PlanSettings(recipe=recipe, json=tmp_path / "plan.json", **chosen))
        return [epoch["batches"] for epoch in json.loads((tmp_path / "plan.json").read_text())["epochs"]]

    assert planned("sft_direct") == [{"align": 2}, {"align": 2}, {"align": 1}]
    assert planned("sft_direct_reason") == [{"reason": 2}] * 3
    assert planned("sft_uniform") == [{"mixed": 4}, {"mixed": 4}, {"mixed": 3}]
    assert planned("sft_direct_reason_replay", batch_rows=1) == [
        {"align": 6, "reason": 64}, {"align": 6, "reason": 64}, {"align": 3, "reason": 64},
    ]  # fmt: skip
    run(workspace, PlanSettings(recipe="sft_reason", export=tmp_path / "exported", epochs=1))
    rows = (tmp_path / "exported" / "ordered.jsonl").read_text("utf-8").splitlines()
    assert len(rows) == 64 and all("reason ü" in row for row in rows)


def test_general_data_are_planned_as_alignment_rows(workspace: Workspace, tmp_path: Path) -> None:
    write_corpus(workspace, align=30, reason=10)
    write_dataset_info(workspace)
    listed = json.loads(dataset_info_path(workspace).read_text()) | {"alpaca": {"file_name": "alpaca.jsonl"}}
    dataset_info_path(workspace).write_text(json.dumps(listed))
    write_dataset_info(workspace)  # as the next stage does
    (workspace.corpus / "alpaca.jsonl").write_text('{"instruction": "Hi", "output": "Hello"}\n' * 25 + "\n")
    mixed = {"overrides": {"dataset": "align,reason,alpaca", "gream_general_share": 0.2}, "epochs": 2, "batch_rows": 1}
    run(workspace, PlanSettings(json=tmp_path / "plan.json", **mixed))
    plan = json.loads((tmp_path / "plan.json").read_text())
    # 20 alignment rows of each epoch, 10 reasoning rows, and a quarter of both
    assert [epoch["batches"] for epoch in plan["epochs"]] == [{"align": 28, "reason": 10}] * 2
    run(workspace, PlanSettings(align_rows=20, reason_rows=10, json=tmp_path / "numbers.json", **mixed))
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert [epoch["batches"] for epoch in numbers["epochs"]] == [{"align": 28, "reason": 10}] * 2
    with pytest.raises(GreamError, match="60 rows of general data in 2 epochs, and there are 25"):
        run(workspace, PlanSettings(**{**mixed, "overrides": {**mixed["overrides"], "gream_general_share": 0.5}}))
    with pytest.raises(GreamError, match="export writes alignment and reasoning rows: leave alpaca out"):
        run(workspace, PlanSettings(export=tmp_path / "exported", **mixed))


def test_the_users_mistakes(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(GreamError, match=r"align.jsonl is missing: run `gream corpus align` first"):
        run(workspace, PlanSettings())
    (tmp_path / "other.yaml").write_text("dataset: alpaca")
    (tmp_path / "broken.yaml").write_text("per_device_train_batch_size: many")
    for recipe, said in (("other", "dataset is alpaca"), ("broken", "wrong value"), ("none", "there is no recipe")):
        with pytest.raises(GreamError, match=said):
            run(workspace, PlanSettings(recipe=str(tmp_path / f"{recipe}.yaml")))
    for wrong, said in (
        ({"align_rows": 5}, "give both align_rows and reason_rows"),
        ({"align_rows": 5, "reason_rows": 5, "export": tmp_path}, "export writes the rows of the corpus"),
    ):
        with pytest.raises(GreamError, match=said):
            PlanSettings(**wrong)  # type: ignore[arg-type]
    write_corpus(workspace, 5, 5)
    with pytest.raises(GreamError, match="does not go together with max_samples: 100"):
        run(workspace, PlanSettings(overrides={"max_samples": 100}))
    workspace.reason.write_text('{"messages": []}\n{"epoch": "two"}\n')
    with pytest.raises(GreamError, match=r"reason.jsonl, line 2 is damaged"):
        run(workspace, PlanSettings())
