"""The keys of a training YAML, and what does not go together with them."""

import difflib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from llamafactory.hparams.finetuning_args import FinetuningArguments
from transformers import HfArgumentParser

from gream_ext.errors import GreamError
from gream_ext.plugins.demand import demand, is_number, is_whole
from gream_ext.plugins.llamafactory import internals

PREFIX = "gream_"


@dataclass
class CurriculumArguments(FinetuningArguments):
    """LLaMA-Factory's fine-tuning arguments and the curriculum of section 4.3."""

    gream_curriculum: bool = field(
        default=False,
        metadata={"help": "Order the training data by the curriculum; its datasets need formatting gream_align or "
                  "gream_reason. Every epoch sees all data of that epoch."},
    )  # fmt: skip
    gream_curriculum_epochs: int = field(
        default=2,
        metadata={"help": "In so many first epochs reasoning batches are inserted among alignment batches with growing "
                  "probability; the other epochs mix uniformly. 0: naive uniform mixing."},
    )  # fmt: skip
    gream_gamma: float = field(
        default=1.5, metadata={"help": "γ, the pace of the curriculum. 0: all reasoning batches at the end."}
    )
    gream_batch_unit: Literal["step", "micro"] = field(
        default="step",
        metadata={"help": "What the curriculum calls a batch: the rows of one optimizer step, or those of one forward "
                  "pass over all processes."},
    )  # fmt: skip
    gream_uniform_unit: Literal["batch", "sample"] = field(
        default="batch", metadata={"help": "Uniform mixing permutes batches of one kind, or single rows."}
    )
    gream_align_share: float = field(
        default=1.0,
        metadata={"help": "Train so large a share of each epoch's alignment rows, drawn by the seed. Below 1: replay "
                  "beside reasoning data, after a first stage on all alignment data."},
    )  # fmt: skip
    gream_sort_rows: bool = field(
        default=True,
        metadata={"help": "Inside an optimizer step the rows run from short to long: its micro-batches need less "
                  "padding, and the step's gradient is the same."},
    )  # fmt: skip
    gream_seed: int | None = field(
        default=None, metadata={"help": "Seed of the order; by default data_seed, or else seed."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        demand("gream_curriculum", self.gream_curriculum, isinstance(self.gream_curriculum, bool), "true or false")
        demand("gream_curriculum_epochs", self.gream_curriculum_epochs,
               is_whole(self.gream_curriculum_epochs), "a whole number, 0 or more")  # fmt: skip
        demand("gream_gamma", self.gream_gamma, is_number(self.gream_gamma), "a number, 0 or more")
        demand("gream_batch_unit", self.gream_batch_unit, self.gream_batch_unit in ("step", "micro"), "step or micro")
        demand("gream_uniform_unit", self.gream_uniform_unit,
               self.gream_uniform_unit in ("batch", "sample"), "batch or sample")  # fmt: skip
        demand("gream_align_share", self.gream_align_share,
               is_number(self.gream_align_share) and 0 < self.gream_align_share <= 1,
               "a number above 0 and at most 1")  # fmt: skip
        demand("gream_sort_rows", self.gream_sort_rows, isinstance(self.gream_sort_rows, bool), "true or false")
        demand("gream_seed", self.gream_seed,
               self.gream_seed is None or is_whole(self.gream_seed), "a whole number, 0 or more")  # fmt: skip


class CheckedParser(HfArgumentParser):
    """The parser of LLaMA-Factory; with the curriculum on it checks all arguments together, before any work."""

    def parse_dict(self, args: dict[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        kinds: list[Any] = list(self.dataclass_types)
        if CurriculumArguments in kinds:
            _refuse_unknown_keys(args, {one.name for kind in kinds for one in fields(kind)})
        return _checked(super().parse_dict(args, allow_extra_keys=allow_extra_keys))

    def parse_args_into_dataclasses(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return _checked(super().parse_args_into_dataclasses(*args, **kwargs))


def _refuse_unknown_keys(args: Mapping[str, Any], known: set[str]) -> None:
    ours = [key for key in known if key.startswith(PREFIX)]
    for key in args:
        if str(key).startswith(PREFIX) and key not in known:
            near = difflib.get_close_matches(key, ours, n=1)
            raise GreamError(f"unknown key {key}: " + (f"did you mean {near[0]}?" if near else f"there are {ours}"))


def _checked(parsed: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parsed arguments as they are; raises `GreamError` where the curriculum cannot keep its promises."""
    arguments: dict[str, Any] = {}
    for one in parsed:
        if hasattr(one, "__dict__"):
            arguments.update(vars(one))
    if arguments.get("gream_curriculum") and arguments.get("do_train"):
        for problem in internals.problems():
            raise GreamError(problem)
        _refuse(arguments)
        _remove_unfinished_checkpoints(Path(arguments["output_dir"]))
    return parsed


def _refuse(arguments: Mapping[str, Any]) -> None:
    accelerator = arguments.get("accelerator_config")
    sampling = arguments.get("train_sampling_strategy", "random")
    epochs = arguments["num_train_epochs"]
    reasons = {
        f"stage: {arguments['stage']}": arguments["stage"] != "sft",
        "streaming: true": arguments.get("streaming"),
        "disable_shuffling: true": arguments.get("disable_shuffling"),
        "group_by_length: true": arguments.get("group_by_length"),
        f"train_sampling_strategy: {sampling}": sampling != "random",
        f"mix_strategy: {arguments.get('mix_strategy')}": arguments.get("mix_strategy", "concat") != "concat",
        "accelerator_config.split_batches: true": getattr(accelerator, "split_batches", False),
        "accelerator_config.dispatch_batches: true": getattr(accelerator, "dispatch_batches", False),
        "auto_find_batch_size: true": arguments.get("auto_find_batch_size"),
        "ignore_data_skip: true": arguments.get("ignore_data_skip"),
        "use_mca: true": arguments.get("use_mca"),
        "use_hyper_parallel: true": arguments.get("use_hyper_parallel"),
        f"num_train_epochs: {epochs}": epochs != int(epochs) or epochs < 1,
    }
    for key, refused in reasons.items():
        if refused:
            raise GreamError(f"gream_curriculum does not go together with {key}: remove one of them")
    if arguments.get("packing") and arguments["cutoff_len"] % 8 != 7:  # packing has taken 1 off
        raise GreamError("packing needs a cutoff_len that is a multiple of 8: LLaMA-Factory pads packs to one")
    if arguments["gream_curriculum_epochs"] > epochs:
        raise GreamError(
            f"gream_curriculum_epochs: {arguments['gream_curriculum_epochs']} is more than num_train_epochs: {epochs:g}"
        )


def _remove_unfinished_checkpoints(output_dir: Path) -> None:
    """Remove checkpoints that a kill left half written; LLaMA-Factory would resume from the newest of them.

    The trainer writes its state last. Renaming is atomic, so every process of this run sees them gone.
    """
    for checkpoint in output_dir.glob("checkpoint-*"):
        if not checkpoint.name.removeprefix("checkpoint-").isdigit() or _finished(checkpoint):
            continue
        aside = checkpoint.with_name(f".unfinished-{checkpoint.name}-{os.getpid()}")
        try:
            checkpoint.rename(aside)
        except FileNotFoundError:  # another process of this run was faster
            continue
        shutil.rmtree(aside, ignore_errors=True)


def _finished(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_bytes())
    except FileNotFoundError:
        return not checkpoint.exists()
    except ValueError:
        return False
    return True
