"""The YAML keys in LLaMA-Factory's own argument parser: accepted, refused in a sentence, and the shipped recipes."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

import gream_ext
from gream_ext.errors import GreamError
from gream_ext.plugins import llamafactory as plugin
from gream_ext.plugins.llamafactory import internals
from gream_ext.plugins.llamafactory.keys import CurriculumKeys

ROOT = Path(gream_ext.__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("sft_*.yaml"))


def parse(keys: dict[str, Any]) -> tuple[Any, ...]:
    from llamafactory.hparams import get_train_args

    return tuple(get_train_args(dict(keys)))


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, Any]:
    return {"model_name_or_path": str(tmp_path), "dataset_dir": str(tmp_path), "dataset": "align,reason",
            "template": "qwen3_nothink", "stage": "sft", "do_train": True, "finetuning_type": "full", "use_cpu": True,
            "output_dir": str(tmp_path / "out"), "report_to": "none", "gream_curriculum": True}  # fmt: skip


def test_registrations_took_place() -> None:
    assert plugin.problems() == []


def test_defaults_are_the_papers(keys: dict[str, Any]) -> None:
    *_, ours, _ = parse(keys)
    told = {name: value for name, value in vars(ours).items() if name.startswith("gream_")}
    assert told == {"gream_curriculum": True, "gream_curriculum_epochs": 2, "gream_gamma": 1.5,
                    "gream_batch_unit": "step", "gream_uniform_unit": "batch", "gream_align_share": 1.0,
                    "gream_general_share": 0.0, "gream_sort_rows": True, "gream_seed": None, "gream_validate_users": 0,
                    "gream_validate_steps": None, "gream_validate_patience": 0}  # fmt: skip
    assert told == vars(CurriculumKeys(gream_curriculum=True)), "the arguments have the keys that are declared"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gream_validate_users": 5}, "gream_validate_users: dataset_dir is not the corpus of a workspace: no "),
        ({"gream_validate_steps": -1}, "gream_validate_steps must be a whole number, 0 or more, not -1"),
        ({"gream_gamma": "fast"}, "gream_gamma must be a number, 0 or more, not 'fast'"),
        ({"gream_gamma": -1}, "gream_gamma must be a number, 0 or more, not -1"),
        ({"gream_gamma": float("nan")}, "gream_gamma must be a number, 0 or more, not nan"),
        ({"gream_curriculum": "yes"}, "gream_curriculum must be true or false, not 'yes'"),
        ({"gream_curriculum_epochs": 1.5}, "gream_curriculum_epochs must be a whole number, 0 or more, not 1.5"),
        ({"gream_curriculum_epochs": 4}, "gream_curriculum_epochs: 4 is more than num_train_epochs: 3"),
        ({"gream_batch_unit": "epoch"}, "gream_batch_unit must be step or micro, not 'epoch'"),
        ({"gream_uniform_unit": "row"}, "gream_uniform_unit must be batch or sample, not 'row'"),
        ({"gream_align_share": 0}, "gream_align_share must be a number above 0 and at most 1, not 0"),
        ({"gream_align_share": 1.5}, "gream_align_share must be a number above 0 and at most 1, not 1.5"),
        ({"gream_general_share": 1}, "gream_general_share must be a number, 0 or more and below 1, not 1"),
        ({"gream_sort_rows": 1}, "gream_sort_rows must be true or false, not 1"),
        ({"gream_seed": True}, "gream_seed must be a whole number, 0 or more, not True"),
        ({"gream_gama": 2.0}, "unknown key gream_gama: did you mean 'gream_gamma'?"),
        ({"packing": True, "cutoff_len": 100}, "packing needs a cutoff_len that is a multiple of 8"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(keys: dict[str, Any], wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(GreamError, match=f"^{re.escape(said)}"):
        parse(keys | wrong)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"stage": "pt"}, "stage: pt"),
        ({"streaming": True, "max_steps": 5}, "streaming: true"),
        ({"disable_shuffling": True}, "disable_shuffling: true"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy: group_by_length"),
        ({"mix_strategy": "interleave_over"}, "mix_strategy: interleave_over"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config.split_batches: true"),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config.dispatch_batches: true"),
        ({"auto_find_batch_size": True}, "auto_find_batch_size: true"),
        ({"ignore_data_skip": True}, "ignore_data_skip: true"),
        ({"num_train_epochs": 2.5}, "num_train_epochs: 2.5"),
        ({"max_samples": 100}, "max_samples: 100: it drops or repeats rows of some epochs, for files stand epoch by"),
        (
            {"val_size": 0.1},
            "val_size: 0.1: it drops or repeats rows of some epochs; name held-out rows in",
        ),
    ],
)
def test_options_that_break_the_order_are_refused(keys: dict[str, Any], option: dict[str, Any], said: str) -> None:
    with pytest.raises(GreamError, match=re.escape(f"gream_curriculum does not go together with {said}")):
        parse(keys | option)
    if option.get("stage") != "pt":
        parse(keys | option | {"gream_curriculum": False})


def test_without_a_training_nothing_is_refused_and_no_checkpoint_touched(keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out" / "checkpoint-2").mkdir(parents=True)
    parse(keys | {"do_train": False, "do_eval": True, "eval_dataset": "align", "dataset": None, "max_samples": 5})
    assert (tmp_path / "out" / "checkpoint-2").exists()


def test_a_name_that_is_gone_is_said_with_the_version(keys: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from llamafactory.train.sft import trainer

    monkeypatch.setattr(trainer, "CustomSeq2SeqTrainer", None)
    sentence = (
        f"LLaMA-Factory {internals.version()} has no llamafactory.train.sft.trainer.CustomSeq2SeqTrainer."
        "_get_train_sampler ('NoneType' object has no attribute '_get_train_sampler'), which the curriculum of "
        "gream_ext needs: install llamafactory==0.9.5"
    )
    assert plugin.problems() == [sentence]
    with pytest.raises(GreamError, match=f"^{re.escape(sentence)}$"):
        parse(keys)
    parse(keys | {"gream_curriculum": False})


@pytest.mark.parametrize("first", ["rows", "trainer", "arguments"])
def test_whichever_module_of_ours_is_imported_first(first: str) -> None:
    code = f"import torch, gream_ext.plugins.llamafactory.{first}\nprint(sys.modules[{plugin.__name__!r}].problems())"
    done = subprocess.run([sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["[]"] and "left as it is" not in done.stderr, done.stderr


DATASETS = {
    "align": {"formatting": "gream_align"},
    "reason": {"formatting": "gream_reason"},
    "half": {"formatting": "gream_reason", "split": "train[:50%]"},
    "few": {"formatting": "gream_align", "num_samples": 5},
    "alpaca": {},
}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "few,reason"}, "gream_curriculum does not go together with num_samples: 5 of few in dataset_info"),
        ({"dataset": "align,half"}, "gream_curriculum does not go together with split: train[:50%] of half in dataset"),
        ({"dataset": "align,reason,alpaca"}, "dataset alpaca is neither alignment nor reasoning data: give it format"),
        ({"gream_general_share": 0.1}, "gream_general_share needs a dataset of general data"),
    ],
)
def test_datasets_are_refused_before_anything_is_loaded(
    keys: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    entries = {name: {"file_name": "any.jsonl", **entry} for name, entry in DATASETS.items()}
    (tmp_path / "dataset_info.json").write_text(json.dumps(entries))
    with pytest.raises(GreamError, match=f"^{re.escape(said)}"):
        parse(keys | wrong)
    parse(keys | wrong | {"gream_curriculum": False})
    parse(keys | {"dataset": "align,reason,alpaca", "gream_general_share": 0.1})


def test_a_module_without_a_name_is_not_touched() -> None:
    module = types.ModuleType("llamafactory.data.loader")
    module.SupervisedDatasetProcessor = object  # type: ignore[attr-defined]
    with pytest.raises(GreamError, match=r"has no llamafactory.data.loader.PackedSupervisedDatasetProcessor "):
        plugin.ADAPTATIONS["llamafactory.data.loader"](module)
    assert module.SupervisedDatasetProcessor is object  # type: ignore[attr-defined]


def test_half_written_checkpoints_are_removed_and_only_those(keys: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, state in {
        "checkpoint-1": "{}",
        "checkpoint-2": None,
        "checkpoint-3": '{"epo',
        "checkpoint-mine": None,
    }.items():
        (out / name).mkdir(parents=True)
        (out / name / "model.safetensors").touch()
        if state is not None:
            (out / name / "trainer_state.json").write_text(state)
    *_, training, _, _ = parse(keys)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-1", "checkpoint-mine"]
    assert training.resume_from_checkpoint == str(out / "checkpoint-1")


SCHEDULES = {
    "sft_direct": ({"align"}, {"dataset", "gream_curriculum_epochs", "output_dir"}),
    "sft_reason": ({"reason"}, {"dataset", "gream_curriculum_epochs", "output_dir"}),
    "sft_direct_reason": ({"reason"}, {"model_name_or_path", "dataset", "gream_curriculum_epochs", "output_dir"}),
    "sft_direct_reason_replay": (
        {"align", "reason"},
        {"model_name_or_path", "gream_curriculum_epochs", "gream_align_share", "output_dir"},
    ),
    "sft_uniform": ({"align", "reason"}, {"gream_curriculum_epochs", "gream_uniform_unit", "output_dir"}),
}
"""The schedules of table 4: their data, and the keys in which they differ from sft_curriculum.yaml."""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse(recipe: Path, tmp_path: Path) -> None:
    keys = yaml.safe_load(recipe.read_text())
    deepspeed = keys.pop("deepspeed", None)  # its configuration class needs the package itself
    _, data, training, ours, _ = parse(keys | {"use_cpu": True, "output_dir": str(tmp_path)})
    assert ours.gream_curriculum is True and training.num_train_epochs == 3
    assert set(data.dataset) == SCHEDULES.get(recipe.stem, ({"align", "reason"},))[0]
    assert deepspeed is None or deepspeed["zero_optimization"]["stage"] == 3
    text = recipe.read_text()
    assert f"llamafactory-cli train recipes/{recipe.name}" in text, "the launch command stands at the top"
    head = text[: text.index("###")]
    assert re.search(r"\bGB\b", head) and re.search(r"minutes|hour", head), "memory and time to expect"


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_differs_from_the_curriculum_in_what_it_says(name: str) -> None:
    usual, own = (yaml.safe_load((ROOT / "recipes" / f"{one}.yaml").read_text()) for one in ("sft_curriculum", name))
    assert {key for key in own if own[key] != usual.get(key)} == SCHEDULES[name][1] and usual.keys() <= own.keys()


def test_the_plan_reads_the_same_defaults(keys: dict[str, Any]) -> None:
    from gream_ext.plugins.llamafactory.recipe import DEFAULTS

    _, data, training, _, _ = parse(keys)
    told = {**vars(data), **vars(training)}
    assert {name: told[name] for name in DEFAULTS if name != "dataset"} == {
        name: value for name, value in DEFAULTS.items() if name != "dataset"
    }


def test_the_papers_hyper_parameters() -> None:
    keys = yaml.safe_load((ROOT / "recipes" / "sft_paper_qwen3_4b.yaml").read_text())
    told = ("learning_rate", "num_train_epochs", "finetuning_type", "gream_gamma", "gream_curriculum_epochs")
    assert [keys[name] for name in told] == [5e-5, 3, "full", 1.5, 2]
