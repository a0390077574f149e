"""The curriculum of section 4.3 inside LLaMA-Factory, behind its unmodified launcher.

`gream_ext.plugins.autoload` has each module named here adapted right after Python imported it:
subclasses take the places that LLaMA-Factory looks up when it trains. Without our keys in the
YAML these subclasses do what their parents do. The keys are documented in
`gream_ext.plugins.llamafactory.arguments`; all names of LLaMA-Factory that we rely on stand in
`gream_ext.plugins.llamafactory.internals`.
"""

from collections.abc import Callable
from types import ModuleType

from gream_ext.plugins.llamafactory import internals


def _parser(module: ModuleType) -> None:
    from gream_ext.plugins.llamafactory.arguments import CheckedParser, CurriculumArguments

    module._TRAIN_ARGS[module._TRAIN_ARGS.index(module.FinetuningArguments)] = CurriculumArguments
    module.HfArgumentParser = CheckedParser  # type: ignore[attr-defined]


def _converter(module: ModuleType) -> None:
    from gream_ext.plugins.llamafactory.rows import AlignConverter, ReasonConverter

    for name, converter in {"gream_align": AlignConverter, "gream_reason": ReasonConverter}.items():
        if name not in module.DATASET_CONVERTERS:
            module.register_dataset_converter(name, converter)


def _loader(module: ModuleType) -> None:
    from gream_ext.plugins.llamafactory import rows

    module.SupervisedDatasetProcessor = rows.TaggedProcessor  # type: ignore[attr-defined]
    module.PackedSupervisedDatasetProcessor = rows.TaggedPackingProcessor  # type: ignore[attr-defined]


def _workflow(module: ModuleType) -> None:
    from gream_ext.plugins.llamafactory.rows import TaggedCollator
    from gream_ext.plugins.llamafactory.trainer import CurriculumTrainer

    module.SFTDataCollatorWith4DAttentionMask = TaggedCollator  # type: ignore[attr-defined]
    module.CustomSeq2SeqTrainer = CurriculumTrainer  # type: ignore[attr-defined]


def _checked(adapt: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def adapt_module(module: ModuleType) -> None:
        internals.check_names(module)
        adapt(module)
        internals.ADAPTED.add(module.__name__)

    return adapt_module


ADAPTATIONS: dict[str, Callable[[ModuleType], None]] = {
    "llamafactory.hparams.parser": _checked(_parser),
    "llamafactory.data.converter": _checked(_converter),
    "llamafactory.data.loader": _checked(_loader),
    "llamafactory.train.sft.workflow": _checked(_workflow),
}
"""Module of LLaMA-Factory → what is done to it right after it was imported."""


def problems() -> list[str]:
    """Import what LLaMA-Factory trains with and say, in sentences, what keeps the curriculum from working there."""
    return internals.problems()
