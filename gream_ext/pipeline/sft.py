"""Stage ``sft``: supervised fine-tuning by LLaMA-Factory's own launcher, from the base model and the corpus.

LLaMA-Factory trains in ``sft.training/`` and goes on from its last checkpoint after an interruption. What it wrote
there (model, tokenizer, its logs and the curriculum's) becomes ``sft/`` in one step when it is done.
"""

import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gream_ext.corpus.files import dataset_info_path
from gream_ext.errors import GreamError
from gream_ext.pipeline.launch import Progress, bar_progress, launch
from gream_ext.pipeline.record import identity, mark_trained, open_attempt
from gream_ext.pipeline.sft_model import CACHE, drop_unfinished, finish, how_to_ask, merge_adapter, summary
from gream_ext.plugins.recipes import find_recipe, recipe_keys
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

LOSS = re.compile(r"^\{.*'loss': '?([-+.\deE]+)")
OURS = ("model_name_or_path", "dataset_dir", "output_dir", "overwrite_output_dir")
"""Keys that this stage sets: they are the workspace's files."""
CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Of /proc/cpuinfo, where a processor multiplies bfloat16; the last is Arm's."""


@dataclass(frozen=True)
class SftSettings:
    recipe: str = option("sft_curriculum", help="A shipped recipe, or the path of a YAML file for LLaMA-Factory.")
    processes: int | None = option(
        None, least=1, help="Processes to train with; by default LLaMA-Factory decides (CPU: one)."
    )
    precision: str = option(
        "recipe",
        help="Numbers of the forward and backward pass; auto: bfloat16 where this machine multiplies it, else float32.",
        choices=("recipe", "auto"),
    )
    validate: int | None = option(
        None,
        least=0,
        help="Measure Recall@10 in direct mode on so many validation users during training and keep the best model; "
        "by default as the recipe's gream_validate_users says.",
    )
    seed: int | None = option(None, help="Seed of the training and of its order; by default the recipe's.")
    overrides: dict[str, Any] = option({}, help="Keys of the recipe to change.")


def run(workspace: Workspace, settings: SftSettings) -> None:
    """Train, and write the model folder ``sft/``.

    Raises:
        GreamError: for a missing input, or a key that is not the user's to set or nobody's.
        LaunchError: if LLaMA-Factory fails.
    """
    recipe, base = find_recipe(settings.recipe), workspace.model("base_model")
    for key in settings.overrides:
        if key in OURS:
            raise GreamError(f"sft: {key!r} cannot be overridden: it is a file of the workspace")
    for path, command in ((base, "base-model"), (workspace.align, "corpus align")):
        if not path.exists():
            raise GreamError(f"{path} is missing: run `gream {command}` first")
    keys = recipe_keys(recipe, settings.overrides)
    describe = how_to_ask(workspace, keys)
    folder, model = workspace.path("sft.training"), workspace.model("sft")
    if not open_attempt(folder, identity(settings, _reads(workspace, settings))):
        drop_unfinished(folder)
        words, environment = training_command(workspace, settings, recipe)
        environment["HF_DATASETS_CACHE"] = str((folder / CACHE).resolve())
        starting = "starting LLaMA-Factory"
        launch(words, name="sft", workspace=workspace, environment=environment, progress=read_progress, phase=starting)
        mark_trained(folder)
    if (folder / "adapter_config.json").exists():
        merge_adapter(workspace, folder, keys, describe)
    else:
        finish(folder, model, describe)
    print(summary(model))


def training_command(workspace: Workspace, settings: SftSettings, recipe: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and what it needs in its environment.

    ``llamafactory-cli`` builds its torchrun command as one string that it splits at blanks. Where a path has one we
    give torchrun the same words ourselves.
    """
    chosen = {
        "seed": settings.seed,
        "bf16": multiplies_bfloat16() if settings.precision == "auto" else None,
        "gream_validate_users": settings.validate,
    }
    keys = {
        **{key: value for key, value in chosen.items() if value is not None},
        **settings.overrides,
        "model_name_or_path": str(workspace.model("base_model").resolve()),
        "dataset_dir": str(workspace.corpus.resolve()),
        "output_dir": str(workspace.path("sft.training").resolve()),
        "overwrite_output_dir": False,  # so that it resumes from a checkpoint
    }
    words = [str(recipe), *(f"{key}={yaml_word(value)}" for key, value in keys.items())]
    command = [sys.executable, "-m", "llamafactory.cli", "train", *words]
    if settings.processes is None:
        return command, {}
    if settings.processes == 1:
        return command, {"FORCE_TORCHRUN": "0"}
    if any(re.search(r"\s", word) for word in [sys.executable, *words]):
        torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(settings.processes)]
        return [sys.executable, "-m", *torchrun, "-m", "llamafactory.launcher", *words], {}
    return command, {"FORCE_TORCHRUN": "1", "NNODES": "1", "NPROC_PER_NODE": str(settings.processes)}


def yaml_word(value: Any) -> str:
    """A value as LLaMA-Factory reads it off ``key=value``: YAML, on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]


def multiplies_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """The accelerator torch would use, or else the processor, has instructions for it and does not only imitate it."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return False
    return bool(flags and CPU_FLAGS & set(flags[1].split()))


def read_progress(line: str) -> Progress | None:
    """Read LLaMA-Factory's progress off its output: the bar without a name, the loss, and what validation found."""
    if line.startswith("validation"):
        return Progress(said=f"sft: {line}")
    found = LOSS.match(line)
    return Progress(note=f"loss {float(found[1]):.3f}") if found else bar_progress(line, "")


def _reads(workspace: Workspace, settings: SftSettings) -> Sequence[Path]:
    """The model, the recipe, and of the corpus the files that the recipe trains on and measures with."""
    recipe = find_recipe(settings.recipe)
    keys = recipe_keys(recipe, settings.overrides)
    try:
        entries = json.loads(dataset_info_path(workspace).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # LLaMA-Factory says so
        entries = {}
    named = (keys.get(key) or () for key in ("dataset", "eval_dataset"))
    names = [name.strip() for value in named for name in (value.split(",") if isinstance(value, str) else value)]
    rows = (entries.get(name, {}).get("file_name", f"{name}.jsonl") for name in dict.fromkeys(names))
    asked = [workspace.interactions, workspace.item_index] if settings.validate else []
    return [workspace.model("base_model"), recipe, *(workspace.corpus / name for name in rows), *asked]


def _writes(workspace: Workspace, settings: SftSettings) -> Sequence[Path]:
    return (workspace.model("sft"),)


STAGE = Stage(name="sft", settings=SftSettings, run=run, reads=_reads, writes=_writes)
