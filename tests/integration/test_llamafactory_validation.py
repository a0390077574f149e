"""Recall@10 on validation users inside LLaMA-Factory: what is trained stays the same, and the best model is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from gream_ext.corpus.files import row
from gream_ext.corpus.prompts import direct_messages, history_text
from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.decoding.trie import ItemTrie
from gream_ext.inference.engines.transformers import TransformersEngine
from gream_ext.inference.loading import load_model
from gream_ext.inference.modes import Modes
from gream_ext.inference.questions import Question
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.llamafactory.log import BEST, MEASURED
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace
from tests.support.tiny_models import tiny_chat_model
from tests.support.tiny_sft import settings, train, train_all, write_corpus

USERS = 24
SAVING = {"save_strategy": "steps", "save_steps": 4, "learning_rate": 2e-2, "max_steps": 12, "logging_steps": 6}
MEASURING = {"gream_validate_users": USERS, "gream_validate_steps": 4}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Synthetic users, a corpus of their histories, and a model with dropout, whose random numbers matter."""
    made = make_workspace(tmp_path_factory.mktemp("validation"), users=30, items=40)
    index = ItemIndex.load(made.item_index)
    model, tokenizer = tiny_chat_model(index, attention_dropout=0.2)
    model.save_pretrained(made.model("base_model"))
    tokenizer.save_pretrained(made.model("base_model"))
    rows: list[dict[str, Any]] = []
    for history in training_histories(made).values():
        asked = direct_messages(history_text(index, history[:-1], 20))
        rows.append(row("align", "next", None, [*asked, {"role": "assistant", "content": index.text(history[-1])}]))
    write_corpus(made.corpus, rows, rows[:8])
    return made


def keys(workspace: Workspace, name: str, **more: Any) -> dict[str, Any]:
    given = settings(workspace.model("base_model"), workspace.corpus, workspace.path(name), cutoff_len=512)
    return {**given, "dataset": "align", "gream_curriculum": True, "gream_curriculum_epochs": 1, **SAVING, **more}


@pytest.fixture(scope="module")
def trained(workspace: Workspace) -> tuple[Path, Path]:
    """The output folders of the same training with and without being measured."""
    lora = {"finetuning_type": "lora", "lora_target": "all", "gream_validate_patience": 1, "learning_rate": 0.0}
    adapted = keys(workspace, "lora", **{**MEASURING, **lora, "gream_validate_steps": 2})
    train_all([keys(workspace, "with", **MEASURING), keys(workspace, "without"), adapted])
    return workspace.path("with"), workspace.path("without")


def figures(output: Path) -> dict[int, tuple[float, ...]]:
    history = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return {entry["step"]: tuple(entry[name] for name in MEASURED) for entry in history if MEASURED[0] in entry}


def recall(workspace: Workspace, model: Path) -> float:
    """Of all validation users, by the engine that `gream evaluate` uses."""
    loaded, tokenizer = load_model(model)
    index = ItemIndex.load(workspace.item_index)
    modes = Modes(TransformersEngine(loaded, tokenizer, ItemTrie.from_index(index, tokenizer)), index)
    cases = evaluation_cases(workspace, "valid")
    found = modes.direct([Question(case.history) for case in cases])
    return sum(case.target in [one.item_id for one in own[:10]] for case, own in zip(cases, found, strict=True)) / len(
        cases
    )


def test_training_is_byte_for_byte_what_it_is_without(trained: tuple[Path, Path]) -> None:
    measured, plain = trained
    for step in (4, 8, 12):
        for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"):
            mine, theirs = (folder / f"checkpoint-{step}" / name for folder in trained)
            assert mine.read_bytes() == theirs.read_bytes(), f"{name} after step {step}"
    assert figures(measured).keys() == {4, 8, 12} and not figures(plain)


def test_the_best_measurement_is_the_model_that_is_left(trained: tuple[Path, Path], workspace: Workspace) -> None:
    output, _ = trained
    found = figures(output)
    best = max(found, key=lambda step: found[step])
    kept, then = load_file(output / "model.safetensors"), load_file(output / f"checkpoint-{best}" / "model.safetensors")
    assert kept.keys() == then.keys() and all(torch.equal(kept[name], then[name]) for name in kept)
    with safe_open(output / BEST, "pt") as file:
        assert float(file.metadata()["step"]) == best


def test_an_adapter_is_kept_alone_and_patience_ends_a_training_that_gets_no_better(
    trained: tuple[Path, Path], workspace: Workspace
) -> None:
    output = workspace.path("lora")
    found = figures(output)
    assert found.keys() == {2, 4} and len(set(found.values())) == 1, "nothing is learnt at a rate of 0"
    kept, left = load_file(output / BEST), load_file(output / "adapter_model.safetensors")
    assert len(kept) == len(left) > 0 and all("lora_" in name for name in kept)


def test_processes_share_the_users_and_find_the_same(workspace: Workspace) -> None:
    """All thirty users, who do not divide evenly; and the figure is what `gream evaluate` would say of the model."""
    all_users = {"gream_validate_users": 1000, "gradient_accumulation_steps": 1, "max_steps": 2, "logging_steps": 1}
    said = train(keys(workspace, "two", **all_users, save_strategy="no"), processes=2)
    found = figures(workspace.path("two"))
    assert found.keys() == {1, 2}
    assert "validation, step 2 of 2: recall@10 " in said and "30 users" in said
    assert max(found.values())[0] == pytest.approx(recall(workspace, workspace.path("two")))
