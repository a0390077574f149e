"""What a recipe for LLaMA-Factory says of the order of its batches, read without LLaMA-Factory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext.curriculum import CurriculumSettings
from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.keys import PREFIX, CurriculumKeys, refuse, refuse_unknown
from gream_ext.plugins.recipes import recipe_keys

DEFAULTS: Mapping[str, Any] = {
    "dataset": "align,reason",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "seed": 42,
}
"""LLaMA-Factory's own; a test compares them."""


@dataclass(frozen=True)
class Order:
    """All that the order of the batches follows from, beside the rows."""

    keys: CurriculumKeys
    settings: CurriculumSettings
    datasets: tuple[str, ...]
    told: str
    """Where the rows of a batch come from, in words."""


def read_order(recipe: Path, overrides: Mapping[str, Any], processes: int) -> Order:
    """The order that ``recipe`` with ``overrides`` trains in on so many processes; `GreamError` for a broken one."""
    given = {**DEFAULTS, **recipe_keys(recipe, overrides)}
    try:
        refuse_unknown(given)
        keys = CurriculumKeys(**{key: value for key, value in given.items() if str(key).startswith(PREFIX)})
        refuse({**vars(keys), **given})
        device, accumulated = (int(given[name]) for name in ("per_device_train_batch_size",
                                                             "gradient_accumulation_steps"))  # fmt: skip
        settings = keys.order(
            epochs=int(given["num_train_epochs"]),
            step_rows=device * processes * accumulated,
            accumulated=accumulated,
            data_seed=given.get("data_seed"),
            seed=given["seed"],
        )
    except GreamError as error:
        raise GreamError(f"{recipe}: {error}") from None
    except (TypeError, ValueError) as error:
        raise GreamError(f"{recipe}: a key of the curriculum has a wrong value ({error})") from None
    datasets = given["dataset"] if isinstance(given["dataset"], list) else str(given["dataset"]).split(",")
    told = f"{settings.batch_rows} rows a batch: {device} a device × {processes} {_plural('process', processes)}"
    if keys.gream_batch_unit == "step":
        told += f" × {accumulated} {_plural('accumulation step', accumulated)}"
    told += ", before packing" if given.get("packing") else ""
    return Order(keys, settings, tuple(name.strip() for name in datasets), told)


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}es" if word.endswith("ss") else f"{word}s"
