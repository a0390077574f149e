"""The curriculum of section 4.3 inside LLaMA-Factory, behind its unmodified launcher.

`gream_ext.plugins.autoload` has each module named here adapted right after Python imported it: what LLaMA-Factory looks
up there when it trains is ours then. Without our keys in the YAML it does what theirs did. The keys are declared in
`gream_ext.plugins.llamafactory.keys`; all names of LLaMA-Factory that we rely on stand in
`gream_ext.plugins.llamafactory.internals`.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from gream_ext.plugins.llamafactory import internals
from gream_ext.plugins.llamafactory.internals import problems as problems

REPLACED = {
    "llamafactory.data.loader": {
        "SupervisedDatasetProcessor": "rows.TaggedProcessor",
        "PackedSupervisedDatasetProcessor": "rows.TaggedPackingProcessor",
    },
    "llamafactory.train.sft.workflow": {
        "SFTDataCollatorWith4DAttentionMask": "rows.TaggedCollator",
        "CustomSeq2SeqTrainer": "trainer.CurriculumTrainer",
    },
}
"""Module of LLaMA-Factory → class that it calls by this name → class of ours that takes its place."""
CONVERTERS = {"gream_align": "rows.AlignConverter", "gream_reason": "rows.ReasonConverter"}
"""Formatting of a data set → class of ours that reads its rows."""


def _ours(name: str) -> Callable[..., Any]:
    """Makes an instance of a class of ours, which is imported only then: it needs LLaMA-Factory imported whole."""
    module, _, kind = name.partition(".")
    return lambda *args, **kwargs: getattr(importlib.import_module(f"{__name__}.{module}"), kind)(*args, **kwargs)


def _parser(module: ModuleType) -> None:
    from gream_ext.plugins.llamafactory.arguments import CheckedParser, with_our_keys  # it imports transformers

    theirs = module.FinetuningArguments
    module._TRAIN_ARGS[module._TRAIN_ARGS.index(theirs)] = with_our_keys(theirs)
    module.HfArgumentParser = CheckedParser  # type: ignore[attr-defined]


def _converter(module: ModuleType) -> None:
    for formatting, name in CONVERTERS.items():
        module.register_dataset_converter(formatting, _ours(name))


def _replace(module: ModuleType) -> None:
    for theirs, ours in REPLACED[module.__name__].items():
        setattr(module, theirs, _ours(ours))


def _checked(adapt: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def adapt_module(module: ModuleType) -> None:
        for name in internals.NAMES["curriculum"][module.__name__]:
            internals.find("curriculum", module, name)
        adapt(module)
        internals.adapted.add(module.__name__)

    return adapt_module


ADAPTATIONS: dict[str, Callable[[ModuleType], None]] = {
    "llamafactory.hparams.parser": _checked(_parser),
    "llamafactory.data.converter": _checked(_converter),
    **{name: _checked(_replace) for name in REPLACED},
}
"""Module of LLaMA-Factory → what is done to it right after it was imported."""
