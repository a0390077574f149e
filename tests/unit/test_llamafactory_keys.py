"""Our keys: one declaration, from which the recipe's reader and the docs follow; what does not go with them."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import gream_ext
from gream_ext.curriculum import CurriculumSettings
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import GOES_WITH, CurriculumKeys, table
from gream_ext.plugins.llamafactory.recipe import read_order

DOCS = Path(gream_ext.__file__).parent.parent / "docs" / "curriculum.md"


def test_the_docs_have_the_declared_keys() -> None:
    assert table() in DOCS.read_text(encoding="utf-8"), "python -m gream_ext.plugins.llamafactory.keys prints the table"
    assert all(one.metadata["help"] for one in fields(CurriculumKeys))


@pytest.mark.parametrize("key", [one.name for one in fields(CurriculumKeys)])
def test_the_recipes_reader_has_each_key_with_its_default_and_its_rule(key: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{}")
    assert getattr(read_order(tmp_path / "recipe.yaml", {}, 1).keys, key) == getattr(CurriculumKeys(), key)
    with pytest.raises(GreamError, match=rf"recipe.yaml: {key} must be .*, not \[\]"):
        read_order(tmp_path / "recipe.yaml", {key: []}, 1)
    with pytest.raises(GreamError, match=rf"unknown key {key}x: did you mean '{key}'\?"):
        read_order(tmp_path / "recipe.yaml", {f"{key}x": 1}, 1)


@pytest.mark.parametrize("key", GOES_WITH)
def test_the_plan_refuses_what_the_trainer_refuses(key: str, tmp_path: Path) -> None:
    outer, _, inner = key.partition(".")
    kept = GOES_WITH[key][0]
    other = {"stage": "pt", "train_sampling_strategy": "group_by_length", "mix_strategy": "interleave_under",
             "max_samples": 10, "val_size": 0.1}.get(key, True)  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("{}")
    with pytest.raises(GreamError, match=rf"recipe.yaml: gream_curriculum does not go together with {key}: "):
        read_order(recipe, {outer: {inner: other} if inner else other}, 1)
    read_order(recipe, {outer: {inner: kept} if inner else kept}, 1)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"num_train_epochs": 2.5}, "num_train_epochs: 2.5"),
        ({"num_train_epochs": 0, "gream_curriculum_epochs": 0}, "does not go together with num_train_epochs: 0"),
        ({"num_train_epochs": 1}, "gream_curriculum_epochs: 2 is more than num_train_epochs: 1"),
    ],
)
def test_epochs_are_whole_and_enough(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("{}")
    with pytest.raises(GreamError, match=said):
        read_order(tmp_path / "recipe.yaml", keys, 1)


def order(keys: CurriculumKeys, data_seed: int | None = None) -> CurriculumSettings:
    return keys.order(epochs=2, step_rows=24, accumulated=3, data_seed=data_seed, seed=42)


def test_our_seed_comes_before_the_datas_and_that_before_the_runs() -> None:
    assert order(CurriculumKeys()).seed == 42
    assert order(CurriculumKeys(), data_seed=0).seed == 0
    assert order(CurriculumKeys(gream_seed=7), data_seed=1).seed == 7
    assert order(CurriculumKeys(gream_seed=0), data_seed=1).seed == 0


def test_each_key_of_the_order_is_heeded() -> None:
    keys = CurriculumKeys(gream_curriculum_epochs=1, gream_gamma=3, gream_uniform_unit="sample", gream_seed=5)
    assert order(keys) == CurriculumSettings(2, 24, 1, 3.0, 1, "sample", 5)
    assert order(CurriculumKeys(gream_batch_unit="micro")) == CurriculumSettings(2, 8, batches_per_step=3)
