"""What a recipe for LLaMA-Factory says of the order of its batches, read without LLaMA-Factory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext.curriculum import CurriculumSettings
from gream_ext.errors import GreamError

DEFAULTS: Mapping[str, Any] = {
    "dataset": "align,reason",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "seed": 42,
    "gream_curriculum_epochs": 2,
    "gream_gamma": 1.5,
    "gream_batch_unit": "step",
    "gream_uniform_unit": "batch",
    "gream_align_share": 1.0,
}
"""LLaMA-Factory's own and those of `gream_ext.plugins.llamafactory.arguments`; a test compares them."""


@dataclass(frozen=True)
class Order:
    """All that the order of the batches follows from, beside the rows."""

    settings: CurriculumSettings
    datasets: tuple[str, ...]
    align_share: float
    told: str
    """Where the rows of a batch come from, in words."""


def read_order(recipe: Path, overrides: Mapping[str, Any], processes: int) -> Order:
    """The order that ``recipe`` with ``overrides`` trains in on so many processes; `GreamError` for a broken one."""
    import yaml

    try:
        keys = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise GreamError(f"{recipe} is no readable YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(keys, dict):
        raise GreamError(f"{recipe} is no YAML mapping")
    keys = {**DEFAULTS, **keys, **overrides}
    try:
        device, accumulated = (int(keys[name]) for name in ("per_device_train_batch_size",
                                                            "gradient_accumulation_steps"))  # fmt: skip
        micro = keys["gream_batch_unit"] == "micro"
        seeds = (keys.get("gream_seed"), keys.get("data_seed"), keys["seed"])
        settings = CurriculumSettings(
            epochs=int(keys["num_train_epochs"]),
            batch_rows=device * processes * (1 if micro else accumulated),
            curriculum_epochs=int(keys["gream_curriculum_epochs"]),
            gamma=float(keys["gream_gamma"]),
            batches_per_step=accumulated if micro else 1,
            uniform_unit=str(keys["gream_uniform_unit"]),
            seed=next(int(seed) for seed in seeds if seed is not None),
        )
        share = float(keys["gream_align_share"])
    except (TypeError, ValueError) as error:
        raise GreamError(f"{recipe}: a key of the curriculum has a wrong value ({error})") from None
    datasets = tuple(name.strip() for name in str(keys["dataset"]).split(","))
    if not set(datasets) <= {"align", "reason"}:
        raise GreamError(f"{recipe}: dataset is {keys['dataset']}: the plan knows align and reason")
    told = f"{settings.batch_rows} rows a batch: {device} a device × {processes} {_plural('process', processes)}"
    if not micro:
        told += f" × {accumulated} {_plural('accumulation step', accumulated)}"
    return Order(settings, datasets, share, told + (", before packing" if keys.get("packing") else ""))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}es" if word.endswith("ss") else f"{word}s"
