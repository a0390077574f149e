"""The names of LLaMA-Factory that we rely on: the one place to look at for a new version."""

from gream_ext.plugins.relied_on import Names, ReliedOn

SUPPORTED = ("0.9.5",)
"""Versions of LLaMA-Factory that the tests run with."""

NAMES: Names = {
    "curriculum": {
        "llamafactory.hparams.parser": {
            "_TRAIN_ARGS": (),
            "FinetuningArguments": (),
            "HfArgumentParser.parse_dict": ("self", "args", "allow_extra_keys"),
            "HfArgumentParser.parse_args_into_dataclasses": ("self",),
        },
        "llamafactory.data.parser": {"get_dataset_list": ("dataset_names", "dataset_dir")},
        "llamafactory.data.converter": {
            "DATASET_CONVERTERS": (),
            "register_dataset_converter": ("name", "dataset_converter"),
            "SharegptDatasetConverter.__call__": ("self", "example"),
        },
        "llamafactory.data.processor.supervised": {
            "SupervisedDatasetProcessor.preprocess_dataset": ("self", "examples"),
            "PackedSupervisedDatasetProcessor.preprocess_dataset": ("self", "examples"),
        },
        "llamafactory.data.loader": {"SupervisedDatasetProcessor": (), "PackedSupervisedDatasetProcessor": ()},
        "llamafactory.data.collator": {
            "SFTDataCollatorWith4DAttentionMask.__call__": ("self", "features"),
            "SFTDataCollatorWith4DAttentionMask.template": (),
        },
        "llamafactory.train.sft.trainer": {
            "CustomSeq2SeqTrainer._get_train_sampler": (),
            "CustomSeq2SeqTrainer.training_step": (),
            "CustomSeq2SeqTrainer.prediction_step": (),
            "CustomSeq2SeqTrainer.get_total_train_batch_size": ("self", "args"),
        },
        "llamafactory.train.sft.workflow": {"SFTDataCollatorWith4DAttentionMask": (), "CustomSeq2SeqTrainer": ()},
    },
    "templates": {
        "llamafactory.data.template": {
            "TEMPLATES": (),
            "Llama2Template": (),
            "Template.encode_oneturn": ("self", "tokenizer", "messages", "system"),
            "Template.fix_special_tokens": ("self", "tokenizer"),
        }
    },
}
_LLAMAFACTORY = ReliedOn("LLaMA-Factory", "llamafactory", SUPPORTED, NAMES)
version, check, find = _LLAMAFACTORY.version, _LLAMAFACTORY.check, _LLAMAFACTORY.find

HOOKED = ("llamafactory.hparams.parser", "llamafactory.data.converter", "llamafactory.data.loader",
          "llamafactory.train.sft.workflow")  # fmt: skip
"""Modules that `gream_ext.plugins.autoload` has adapted when Python imports them."""
adapted: set[str] = set()
"""Those of them whose adaptation took place in this process."""


def problems() -> list[str]:
    """Import what LLaMA-Factory trains with and say, in sentences, what keeps the curriculum from working there."""
    try:
        check("curriculum")
    except Exception as error:  # whatever its import raises
        return [str(error)]
    if missing := [name for name in HOOKED if name not in adapted]:
        return [
            f"{', '.join(missing)} of LLaMA-Factory {version()} were imported without our hook: is gream-ext installed "
            "(its entry point in torch.backends), and neither TORCH_DEVICE_BACKEND_AUTOLOAD nor GREAM_LLAMAFACTORY 0?"
        ]
    return []
