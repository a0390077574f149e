"""Comparing first values of identifier tokens: rows as tokens, their loss, and runs that go on where they stopped."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.corpus.stages import ALIGN, AlignSettings
from gream_ext.errors import GreamError
from gream_ext.extras.inspect import compare
from gream_ext.extras.inspect.compare import (
    IGNORED,
    Lesson,
    batch_of,
    held_out_loss,
    in_bfloat16,
    lessons_of,
    table,
    token_losses,
    trial,
)  # fmt: skip
from gream_ext.extras.inspect.stages import COMPARISON, CompareSettings
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace
from tests.unit.test_base_model import tiny_pretrained

LESSONS = [Lesson([5, 6, 7, 8], 2), Lesson([9, 10], 1), Lesson([11, 12, 13, 14, 15, 16], 5)]
SMALL: dict[str, Any] = {"steps": 2, "batch_size": 2, "held_out": 6, "longest": 300, "dtype": "float32"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("compare"), users=20, items=24)
    ALIGN.run(workspace, AlignSettings(epochs=1, max_rows=12))
    return workspace


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_pretrained(tmp_path_factory.mktemp("model") / "source", tied=True, spare=0))


@pytest.fixture
def loaded(source: str) -> Any:
    return load_pretrained(source)


def test_a_batch_by_hand() -> None:
    batch = batch_of(LESSONS[:2])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [9, 10, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 7, 8], [IGNORED, 10, IGNORED, IGNORED]]


def test_losses_are_those_of_each_row_alone(loaded: Any) -> None:
    model = loaded[0].eval()
    expected: list[float] = []
    with torch.inference_mode():
        for lesson in LESSONS:
            logits = model(torch.tensor([lesson.ids])).logits[0]
            for place in range(lesson.prompt, len(lesson.ids)):
                expected.append(-float(torch.log_softmax(logits[place - 1], 0)[lesson.ids[place]]))
        losses, wanted = token_losses(model, batch_of(LESSONS))
    assert wanted.tolist() == [7, 8, 10, 16]
    assert losses.tolist() == pytest.approx(expected, abs=1e-5)

    found = held_out_loss(model, LESSONS, 2, identifiers=[8, 16, 99])
    assert found["all"] == pytest.approx(sum(expected) / 4, abs=1e-5)
    assert found["identifiers"] == pytest.approx((expected[1] + expected[3]) / 2, abs=1e-5)
    assert found["words"] == pytest.approx((expected[0] + expected[2]) / 2, abs=1e-5)
    assert held_out_loss(model, LESSONS, 3) == pytest.approx({"all": found["all"], "words": found["all"]}, abs=1e-5)


def test_held_out_rows_are_never_trained_on(workspace: Workspace, loaded: Any) -> None:
    _, tokenizer = loaded
    train, held_out = lessons_of(workspace, tokenizer, 6, 300)
    prompts = [{tuple(lesson.ids[: lesson.prompt]) for lesson in part} for part in (train, held_out)]
    assert len(held_out) == 6 and train and not prompts[0] & prompts[1]
    assert lessons_of(workspace, tokenizer, 6, 300) == (train, held_out)
    assert max(len(lesson.ids) for lesson in (*train, *held_out)) <= 300
    for lesson in held_out:
        assert 0 < lesson.prompt < len(lesson.ids) and lesson.ids[-1] == tokenizer.eos_token_id
    shorter = sorted(len(lesson.ids) for lesson in train)[len(train) // 2]
    assert max(len(lesson.ids) for part in lessons_of(workspace, tokenizer, 2, shorter) for lesson in part) <= shorter
    with pytest.raises(GreamError, match=r"align\.jsonl has 0 rows of at most 3 tokens: lower --held-out or raise"):
        lessons_of(workspace, tokenizer, 6, 3)


def test_a_trial_learns_and_is_the_same_for_a_seed(source: str) -> None:
    train, held_out = LESSONS[:2] * 4, LESSONS[2:]
    settings = CompareSettings(steps=20, batch_size=2, learning_rate=1e-2, dtype="float32")
    found = []
    for seed in (0, 0, 1):
        model, _ = load_pretrained(source)
        before = held_out_loss(model, train, 4)["all"]
        found.append(trial(model, train, held_out, settings, seed, [16]))
        assert held_out_loss(model, train, 4)["all"] < before / 2
    assert found[0] == found[1] != found[2]
    assert list(found[0]) == ["0", "20"] and found[0]["0"] == found[2]["0"]
    assert list(found[0]["0"]) == ["all", "identifiers"]  # the one response token held out is an identifier


def test_bfloat16_comes_near(source: str) -> None:
    losses = []
    for dtype in ("float32", "bfloat16"):
        model, _ = load_pretrained(source)
        found = trial(model, LESSONS, LESSONS, CompareSettings(steps=2, batch_size=2, dtype=dtype), 0)
        losses.append(found["2"]["all"])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2) and losses[0] != losses[1]
    assert in_bfloat16("bfloat16") and not in_bfloat16("float32")


def test_goes_on_where_it_stopped(
    workspace: Workspace, source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = CompareSettings(base_model=source, seeds=(0, 1), initialisations=("random", "semantic"), **SMALL)
    real, calls = compare.trial, []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments[4])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(compare, "trial", counted)
    path = workspace.path(COMPARISON)
    with pytest.raises(KeyboardInterrupt):
        compare.compare(workspace, settings)
    earlier = json.loads(path.read_text())["runs"]
    assert [(one["initialisation"], one["seed"]) for one in earlier] == [("random", 0), ("semantic", 0)]
    compare.compare(workspace, settings)
    assert calls == [0, 0, 1, 1, 1]
    told = json.loads(path.read_text())
    assert told["runs"][:2] == earlier and len(told["runs"]) == 4 and told["settings"]["base_model"] == "source"
    assert Path(source).parent.as_posix() not in path.read_text()
    compare.compare(workspace, settings)  # everything is there
    assert len(calls) == 5
    assert capsys.readouterr().out.count("initialisation  tokens") == 2
    compare.compare(
        workspace, CompareSettings(base_model=source, seeds=(0,), initialisations=("mean",), **{**SMALL, "steps": 1})
    )
    assert len(calls) == 6 and len(json.loads(path.read_text())["runs"]) == 1  # other settings: nothing is kept
    path.write_text("{")
    with pytest.raises(GreamError, match=r"base_model_compare\.json is damaged .*: run `gream base-model compare`"):
        compare.compare(workspace, settings)
    path.unlink()


def test_the_table_by_hand() -> None:
    runs = [
        {"initialisation": "mean", "seed": seed, "losses": {"0": {"all": 4.0 + seed}, "9": {"all": 1.0}}}
        for seed in (0, 1)
    ]
    assert [line.split() for line in table(runs, 9).splitlines()] == [
        ["initialisation", "tokens", "step", "0", "step", "9", "held-out", "loss"],
        ["mean", "all", "4.500", "(4.000–5.000)", "1.000", "(1.000–1.000)"],
    ]
