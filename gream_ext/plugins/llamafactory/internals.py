"""The names of LLaMA-Factory and transformers that we rely on: the one place to look at for a new version."""

import importlib
from types import ModuleType

from gream_ext.errors import GreamError
from gream_ext.plugins import autoload

SUPPORTED = ("0.9.5",)
"""Versions of LLaMA-Factory that the tests run with."""

NAMES: dict[str, tuple[str, ...]] = {
    "llamafactory.hparams.parser": ("_TRAIN_ARGS", "FinetuningArguments", "HfArgumentParser.parse_dict"),
    "llamafactory.data.converter": (
        "DATASET_CONVERTERS",
        "register_dataset_converter",
        "SharegptDatasetConverter.__call__",
    ),
    "llamafactory.data.loader": (
        "SupervisedDatasetProcessor.preprocess_dataset",
        "PackedSupervisedDatasetProcessor.preprocess_dataset",
    ),
    "llamafactory.train.sft.workflow": (
        "SFTDataCollatorWith4DAttentionMask.__call__",
        "CustomSeq2SeqTrainer._get_train_sampler",
        "CustomSeq2SeqTrainer.training_step",
        "CustomSeq2SeqTrainer.prediction_step",
        "CustomSeq2SeqTrainer.get_total_train_batch_size",
    ),
}
"""Module → attributes that must be there, looked up before anything of the module is touched."""

ADAPTED: set[str] = set()
"""Modules whose adaptation took place in this process."""


def version() -> str:
    """The installed version of LLaMA-Factory, ``unknown`` if its metadata are gone."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("llamafactory")
    except PackageNotFoundError:
        return "unknown"


def check_names(module: ModuleType, names: tuple[str, ...] | None = None) -> None:
    """Raise `GreamError` naming the version when ``module`` lacks a name that we rely on, by default of `NAMES`."""
    for name in NAMES[module.__name__] if names is None else names:
        found: object = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise GreamError(
                f"LLaMA-Factory {version()} has no {module.__name__}.{name}, which the curriculum needs: "
                f"install llamafactory=={SUPPORTED[-1]}"
            )


def problems() -> list[str]:
    """What keeps the curriculum from working in this process, in sentences; imports LLaMA-Factory."""
    if autoload.switched_off():
        return [f"the environment variable {autoload.SWITCH} turns our hook in LLaMA-Factory off: unset it"]
    found = []
    for name in NAMES:
        try:
            check_names(importlib.import_module(name))
        except Exception as error:
            found.append(str(error))
            continue
        if name not in ADAPTED:
            found.append(
                f"{name} of LLaMA-Factory {version()} was imported without our hook: is gream-ext installed "
                "(its entry point in torch.backends), and TORCH_DEVICE_BACKEND_AUTOLOAD not 0?"
            )
    return found
