"""How a row keeps its kind and its epoch on the way from a data file to the trainer.

The converters add two columns, the processors keep them, add the length, and never pack rows
that differ in them, and the collator turns them into a count of rows of each kind.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from llamafactory.data.collator import SFTDataCollatorWith4DAttentionMask
from llamafactory.data.converter import SharegptDatasetConverter
from llamafactory.data.processor import PackedSupervisedDatasetProcessor, SupervisedDatasetProcessor

from gream_ext.curriculum import ALIGN, KINDS, REASON
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import GENERAL

KIND, EPOCH, LENGTH = "gream_kind", "gream_epoch", "gream_length"
"""Columns of the data set that LLaMA-Factory trains on: index into `KINDS`, or `GENERAL`; 0 for every epoch; tokens."""
FORMAT = 3
"""Of these columns. It is a field of what writes them and so part of the key under which ``datasets`` caches their
work: raise it when that changes, and old caches are not used."""
COUNTS = "gream_counts"
"""Key of a collated batch: (rows of alignment data, general ones among them, rows of reasoning data)."""


def row_tags(dataset: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kind, epoch and length of each row of a tokenized ``datasets.Dataset``: int32 [rows] each.

    Read as Arrow: the formats numpy and torch of datasets 4.0 import a class that torchvision 0.26 has dropped.
    """
    table = dataset.select_columns([KIND, EPOCH, LENGTH]).with_format("arrow")[:]
    kinds, epochs, lengths = (np.asarray(table[column], np.int32) for column in (KIND, EPOCH, LENGTH))
    return kinds, epochs, lengths


@dataclass
class AlignConverter(SharegptDatasetConverter):
    """``"formatting": "gream_align"`` in dataset_info.json: chat messages of alignment data.

    Columns and tags are those of the format sharegpt. A row may have a field ``epoch``, from 1:
    it is trained in that epoch of the curriculum only; without it, or null, in every epoch.
    """

    kind: int = ALIGN
    format: int = FORMAT

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        epoch = example.get("epoch") or 0
        if not isinstance(epoch, int) or epoch < 0:
            raise GreamError(f"{self.dataset_attr}: epoch must be a whole number from 1, not {epoch!r}, in {example}")
        if example.get("kind") not in (None, KINDS[self.kind]):
            raise GreamError(f"{self.dataset_attr}: a row of kind {example['kind']!r} in data of {KINDS[self.kind]}")
        return {**super().__call__(example), KIND: self.kind, EPOCH: epoch}


@dataclass
class ReasonConverter(AlignConverter):
    """``"formatting": "gream_reason"``: the same for reasoning data."""

    kind: int = REASON


def _process_by_tag(process: Any, examples: dict[str, list[Any]], packed: bool) -> dict[str, list[Any]]:
    """Run LLaMA-Factory's ``process`` on rows of one kind and epoch at a time, and tag what comes out.

    Rows of general data have no tag where they were joined to rows that do.
    """
    if KIND not in examples:
        return process(examples)
    given = zip(examples[KIND], examples[EPOCH], strict=True)
    tags = [(GENERAL, 0) if kind is None else (kind, epoch) for kind, epoch in given]
    order = sorted(range(len(tags)), key=lambda row: tags.index(tags[row])) if packed else range(len(tags))
    results: dict[str, list[Any]] = defaultdict(list)
    for (kind, epoch), group in groupby(order, key=tags.__getitem__):
        rows = list(group)
        part = {column: [values[row] for row in rows] for column, values in examples.items()}
        if kind != GENERAL:
            _demand_dialogues(part)
        inputs = process(part)
        lengths = [len(ids) for ids in inputs.get("input_ids", ())]
        added = {KIND: [kind] * len(lengths), EPOCH: [epoch] * len(lengths), LENGTH: lengths}
        for column, values in {**inputs, **added}.items():
            results[column].extend(values)
    return results


def _demand_dialogues(examples: dict[str, list[Any]]) -> None:
    """LLaMA-Factory drops other rows with a warning, and the plan counts them."""
    for prompt, response in zip(examples["_prompt"], examples["_response"], strict=True):
        if len(prompt) % 2 != 1 or len(response) != 1:
            raise GreamError(
                "a row of alignment or reasoning data is no dialogue of user and assistant in turn, and LLaMA-Factory "
                f"would drop it: {prompt + response}"
            )


@dataclass
class TaggedProcessor(SupervisedDatasetProcessor):
    """Tokenizes as its parent does and keeps the tags."""

    format: int = FORMAT

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return _process_by_tag(super().preprocess_dataset, examples, packed=False)


@dataclass
class TaggedPackingProcessor(PackedSupervisedDatasetProcessor):
    """Packs as its parent does, only rows of one kind and epoch together."""

    format: int = FORMAT

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return _process_by_tag(super().preprocess_dataset, examples, packed=True)


class TaggedCollator(SFTDataCollatorWith4DAttentionMask):
    """Collates as its parent does; a batch of tagged rows also says how many of each kind it holds."""

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        kinds = [feature.pop(KIND) for feature in features if KIND in feature]
        for feature in features:
            feature.pop(EPOCH, None)
            feature.pop(LENGTH, None)
        batch = super().__call__(features)
        if kinds:
            batch[COUNTS] = (len(kinds) - kinds.count(REASON), kinds.count(REASON))
        return batch
