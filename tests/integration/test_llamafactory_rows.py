"""Kind and epoch of a row on their way through LLaMA-Factory's converters, processors and collator."""

import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gream_ext.curriculum import ALIGN, REASON
from gream_ext.errors import GreamError
from tests.support.tiny_sft import WORDS, make_model, make_rows, write_corpus

TAG_WORDS = {(kind, epoch): WORDS[3 * kind + epoch] for kind in (ALIGN, REASON) for epoch in (0, 1, 2)}
"""A token for each tag, which stands in all rows of that tag and in no other."""


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], dict[str, Any]]:
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import get_dataset_list

    folder = write_corpus(tmp_path_factory.mktemp("corpus"), make_rows("align", 1), make_rows("reason", 1))

    def convert(name: str, row: dict[str, Any]) -> dict[str, Any]:
        (attributes,) = get_dataset_list([name], str(folder))
        return dict(get_dataset_converter(attributes.formatting, attributes, SimpleNamespace())(row))  # type: ignore[arg-type]

    return convert


@pytest.fixture(scope="module")
def processors(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes the processor that LLaMA-Factory's loader would make."""
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.data.loader import _get_dataset_processor
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(make_model(tmp_path_factory.mktemp("model")))

    def make(**keys: Any) -> Any:
        arguments = DataArguments(template="qwen3_nothink", cutoff_len=64, **keys)
        template = get_template_and_fix_tokenizer(tokenizer, arguments)
        return _get_dataset_processor(arguments, "sft", template, tokenizer, None)

    return make


def rows_of_all_tags() -> list[dict[str, Any]]:
    """Five rows of each tag, neighbours of different tags."""
    rows = []
    for number in range(5):
        for (kind, epoch), word in TAG_WORDS.items():
            messages = [{"role": "user", "content": word * (1 + number)}, {"role": "assistant", "content": word}]
            rows.append({"kind": ("align", "reason")[kind], "epoch": epoch or None, "messages": messages})
    return rows


def batch(convert: Callable[[str, dict[str, Any]], dict[str, Any]]) -> dict[str, list[Any]]:
    converted = [convert(row["kind"], row) for row in rows_of_all_tags()]
    return {column: [row[column] for row in converted] for column in converted[0]}


def test_converter_keeps_the_messages_and_adds_the_tags(convert: Any) -> None:
    (row,) = make_rows("reason", 1, epoch=2)
    tagged, plain = convert("reason", row), convert("reason_plain", row)
    assert (tagged.pop("gream_kind"), tagged.pop("gream_epoch")) == (REASON, 2)
    assert tagged == plain
    (row,) = make_rows("align", 1)
    assert [convert("align", row)[column] for column in ("gream_kind", "gream_epoch")] == [ALIGN, 0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epoch": "first"}, "align.jsonl: epoch must be a whole number from 1, not 'first'"),
        ({"epoch": -1}, "align.jsonl: epoch must be a whole number from 1, not -1"),
        ({"kind": "reason"}, "align.jsonl: a row of kind 'reason' in data of align"),
    ],
)
def test_converter_refuses(convert: Any, wrong: dict[str, Any], said: str) -> None:
    (row,) = make_rows("align", 1)
    with pytest.raises(GreamError, match=f"^{re.escape(said)}"):
        convert("align", row | wrong)


def test_processor_keeps_order_and_tags(convert: Any, processors: Any) -> None:
    processor, examples = processors(), batch(convert)
    made = processor.preprocess_dataset(examples)
    assert list(zip(made["gream_kind"], made["gream_epoch"], strict=True)) == [*TAG_WORDS] * 5
    assert made["gream_length"] == [len(ids) for ids in made["input_ids"]]
    plain = {column: values for column, values in examples.items() if not column.startswith("gream_")}
    expected = processor.preprocess_dataset(plain)
    assert {column: made[column] for column in expected} == expected and "gream_kind" not in expected


@pytest.mark.parametrize("neat", [False, True])
def test_no_pack_mixes_kinds_or_epochs(convert: Any, processors: Any, neat: bool) -> None:
    processor = processors(packing=True, neat_packing=neat)
    made = processor.preprocess_dataset(batch(convert))
    tokens = processor.tokenizer.convert_tokens_to_ids(list(TAG_WORDS.values()))
    assert len(made["input_ids"]) < 30, "rows were packed"
    for ids, kind, epoch in zip(made["input_ids"], made["gream_kind"], made["gream_epoch"], strict=True):
        assert {list(TAG_WORDS)[tokens.index(token)] for token in ids if token in tokens} == {(kind, epoch)}


@pytest.mark.parametrize("packing", [False, True])
def test_a_row_that_would_be_dropped_is_refused_and_a_general_one_is_not(
    convert: Any, processors: Any, packing: bool
) -> None:
    processor, examples = processors(packing=packing), batch(convert)
    examples["_response"][7] = []  # as LLaMA-Factory's converter leaves a row whose turns do not alternate
    with pytest.raises(GreamError, match="no dialogue of user and assistant in turn"):
        processor.preprocess_dataset(examples)
    examples["gream_kind"][7] = examples["gream_epoch"][7] = None
    made = processor.preprocess_dataset(examples)
    assert -1 not in made["gream_kind"] and (packing or len(made["input_ids"]) == 29)


def test_rows_without_a_tag_become_general_ones(convert: Any, processors: Any) -> None:
    examples = batch(convert)
    examples["gream_kind"][:3] = examples["gream_epoch"][:3] = [None] * 3
    made = processors().preprocess_dataset(examples)
    assert list(zip(made["gream_kind"], made["gream_epoch"], strict=True)) == [(-1, 0)] * 3 + ([*TAG_WORDS] * 5)[3:]
    collated = collate([-1, REASON, ALIGN, -1])
    assert collated["gream_counts"] == (3, 1), "they count as alignment rows"


def collate(kinds: list[int]) -> dict[str, Any]:
    from gream_ext.plugins.llamafactory import rows

    class Plain(rows.TaggedCollator):  # without the model and the tokenizer of its parent
        def __init__(self) -> None:
            pass

    parent, own = rows.SFTDataCollatorWith4DAttentionMask, {"__call__": lambda self, features: {"features": features}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parent, "__call__", own["__call__"])
        return Plain()([{"gream_kind": kind, "gream_epoch": 0, "gream_length": 1, "input_ids": [1]} for kind in kinds])


def curriculum_of(keys: dict[str, Any], **arguments: Any) -> Any:
    """What the trainer makes of six rows of different lengths."""
    import datasets

    from gream_ext.plugins.llamafactory.keys import CurriculumKeys
    from gream_ext.plugins.llamafactory.trainer import _curriculum

    rows = {"gream_kind": [0, 0, 0, 0, 1, 1], "gream_epoch": [0] * 6, "gream_length": [9, 2, 8, 3, 7, 4]}
    given = {"num_train_epochs": 2.0, "gradient_accumulation_steps": 2, "data_seed": 3, "seed": 42, **arguments}
    trainer = SimpleNamespace(
        finetuning_args=CurriculumKeys(**keys),
        args=SimpleNamespace(**given),
        get_total_train_batch_size=lambda args: 4,
    )
    return _curriculum(trainer, datasets.Dataset.from_dict(rows))  # type: ignore[arg-type]


def test_the_trainer_heeds_the_keys_of_the_order() -> None:
    (batch,) = [rows for rows in curriculum_of({}).share(0) if 0 in rows]
    assert batch.tolist() == [1, 3, 2, 0], "from short to long"
    plain = [rows.tolist() for rows in curriculum_of({"gream_sort_rows": False}, data_seed=5).share(0)]
    assert curriculum_of({"gream_sort_rows": False}).lengths is None and [1, 3, 2, 0] not in plain
    assert curriculum_of({}).settings.seed == 3 and curriculum_of({"gream_seed": 8}).settings.seed == 8
    assert curriculum_of({}, data_seed=None).settings.seed == 42
    micro = curriculum_of({"gream_batch_unit": "micro"}).settings
    assert (micro.batch_rows, micro.batches_per_step, micro.epochs) == (2, 2, 2)
    assert curriculum_of({"gream_align_share": 0.5}).row_counts(1) == (2, 2)


def test_tags_are_read_where_torchvision_has_no_video_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from gream_ext.plugins.llamafactory.rows import row_tags

    rows = {"gream_kind": [0, 1, 0], "gream_epoch": [1, 0, 2], "gream_length": [5, 6, 7], "input_ids": [[1], [2], [3]]}
    dataset = datasets.Dataset.from_dict(rows).select([2, 0])  # with the indices of a split
    monkeypatch.setattr(datasets.config, "TORCHVISION_AVAILABLE", True)  # torchvision 0.26: nothing of the name there
    for name in ("torchvision", "torchvision.io"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name in ("numpy", "torch"):
        with pytest.raises(ImportError, match="VideoReader"):
            dataset.with_format(name)[0]
    assert [column.tolist() for column in row_tags(dataset)] == [[0, 0], [2, 1], [7, 5]]


def test_resume_with_another_plan_is_refused(tmp_path: Path) -> None:
    from gream_ext.plugins.llamafactory.trainer import CurriculumRun

    run = CurriculumRun.__new__(CurriculumRun)
    run.output_dir = tmp_path
    run._demand_same_plan({"steps": 5}, 2)
    (tmp_path / "curriculum.json").write_text(json.dumps({"settings": {"gamma": 1}, "steps": 5}))
    run._demand_same_plan({"settings": {"gamma": 1}, "steps": 5}, 2)
    with pytest.raises(GreamError, match=r"cannot resume in .* at step 2: settings of the curriculum differ"):
        run._demand_same_plan({"settings": {"gamma": 2}, "steps": 5}, 2)


def test_another_format_of_our_columns_does_not_use_old_caches(processors: Any) -> None:
    from datasets.fingerprint import Hasher

    processor = processors()
    before = Hasher.hash(processor.preprocess_dataset)
    assert Hasher.hash(processor.preprocess_dataset) == before
    processor.format += 1
    assert Hasher.hash(processor.preprocess_dataset) != before
