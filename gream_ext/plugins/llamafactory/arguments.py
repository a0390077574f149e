"""LLaMA-Factory's arguments with our keys among them, checked together before any work."""

import os
from collections.abc import Mapping
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

from transformers import HfArgumentParser
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory import internals
from gream_ext.plugins.llamafactory.keys import CurriculumKeys, dataset_kinds, refuse, refuse_unknown
from gream_ext.plugins.llamafactory.log import remove_unfinished_checkpoints
from gream_ext.workspace import Workspace


def with_our_keys(theirs: type) -> type:
    """LLaMA-Factory's fine-tuning arguments and our keys in one dataclass."""

    def check(self: Any) -> None:
        theirs.__post_init__(self)  # type: ignore[attr-defined]
        CurriculumKeys.__post_init__(self)

    return make_dataclass("CurriculumArguments", [], bases=(theirs, CurriculumKeys), namespace={"__post_init__": check})


class CheckedParser(HfArgumentParser):
    """The parser of LLaMA-Factory; with the curriculum on it checks all arguments together, before any work."""

    def parse_dict(self, args: dict[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        if any(issubclass(kind, CurriculumKeys) for kind in self.dataclass_types):
            refuse_unknown(args)
        return _checked(super().parse_dict(args, allow_extra_keys=allow_extra_keys))

    def parse_args_into_dataclasses(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        return _checked(super().parse_args_into_dataclasses(*args, **kwargs))


def _checked(parsed: tuple[Any, ...]) -> tuple[Any, ...]:
    """The parsed arguments as they are; raises `GreamError` where the curriculum cannot keep its promises."""
    arguments: dict[str, Any] = {}
    for one in parsed:
        if hasattr(one, "__dict__"):
            arguments.update(vars(one))
    curriculum, validation = arguments.get("gream_curriculum"), arguments.get("gream_validate_users")
    if arguments.get("do_train") and (curriculum or validation):
        for problem in internals.problems():
            raise GreamError(problem)
        remove_unfinished_checkpoints(Path(arguments["output_dir"]))
    if arguments.get("do_train") and validation:
        keys = next(one for one in parsed if isinstance(one, CurriculumKeys))
        vars(keys)["gream_workspace"] = _workspace(arguments)
    if arguments.get("do_train") and curriculum:
        refuse(arguments)
        if arguments.get("packing") and arguments["cutoff_len"] % 8 != 7:  # packing has taken 1 off
            raise GreamError("packing needs a cutoff_len that is a multiple of 8: LLaMA-Factory pads packs to one")
        _refuse_datasets(arguments)
    return parsed


def _workspace(arguments: Mapping[str, Any]) -> str:
    """The folder of the workspace whose validation users are asked, around the corpus that is trained."""
    shared_out = is_deepspeed_zero3_enabled() or arguments["fsdp"] or os.environ.get("ACCELERATE_USE_FSDP") == "true"
    if arguments["stage"] != "sft" or shared_out:
        raise GreamError(
            "gream_validate_users asks the whole model in every process: it needs stage: sft, and neither fsdp nor "
            "ZeRO-3"
        )
    workspace = Workspace(Path(str(arguments["dataset_dir"])).resolve().parent)
    for path in (workspace.interactions, workspace.item_index):
        if not path.exists():
            raise GreamError(f"gream_validate_users: dataset_dir is not the corpus of a workspace: no {path}")
    return str(workspace.root)


def _refuse_datasets(arguments: Mapping[str, Any]) -> None:
    names = arguments["dataset"] or []
    describe = internals.find("curriculum", "llamafactory.data.parser", "get_dataset_list")
    try:
        entries = describe(names, arguments["dataset_dir"])
    except ValueError:  # no such file, no such data set: LLaMA-Factory says so itself, or reads tokenized_path
        return
    dataset_kinds(dict(zip(names, map(vars, entries), strict=True)), arguments["gream_general_share"])
