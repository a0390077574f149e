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
        "llamafactory.data.collator": {"SFTDataCollatorWith4DAttentionMask.__call__": ("self", "features")},
        "llamafactory.train.sft.trainer": {
            "CustomSeq2SeqTrainer._get_train_sampler": (),
            "CustomSeq2SeqTrainer.training_step": (),
            "CustomSeq2SeqTrainer.prediction_step": (),
            "CustomSeq2SeqTrainer.get_total_train_batch_size": ("self", "args"),
        },
        "llamafactory.train.sft.workflow": {"SFTDataCollatorWith4DAttentionMask": (), "CustomSeq2SeqTrainer": ()},
    }
}
_LLAMAFACTORY = ReliedOn("LLaMA-Factory", "llamafactory", SUPPORTED, NAMES)
version, check, find = _LLAMAFACTORY.version, _LLAMAFACTORY.check, _LLAMAFACTORY.find
