"""Stage ``sft``: supervised fine-tuning by LLaMA-Factory's own launcher, from the base model and the corpus.

LLaMA-Factory trains in ``sft.training/`` and goes on from its last checkpoint after an interruption. What it wrote
there (model, tokenizer, its logs and the curriculum's) becomes ``sft/`` in one step when it is done.
"""

import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gream_ext.corpus.files import dataset_info_path
from gream_ext.errors import GreamError
from gream_ext.pipeline.asked import how_to_ask
from gream_ext.pipeline.attempt import IDENTITY, TRAINED, identity, mark_trained, open_attempt
from gream_ext.pipeline.launch import Progress, bar_progress, launch
from gream_ext.pipeline.precision import multiplies_bfloat16
from gream_ext.pipeline.shipped import find_recipe
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

LOSS = re.compile(r"^\{.*'loss': '?([-+.\deE]+)")
EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight")
WEIGHTS = ("*.safetensors", "*.bin")
OURS = ("model_name_or_path", "dataset_dir", "output_dir", "overwrite_output_dir")
"""Keys that this stage sets: they are the workspace's files."""


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
    seed: int | None = option(None, help="Seed of the training and of its order; by default the recipe's.")
    overrides: dict[str, Any] = option({}, help="Keys of the recipe to change.")


def run(workspace: Workspace, settings: SftSettings) -> None:
    """Train, and write the model folder ``sft/``.

    Raises:
        GreamError: for a missing input or a key that is not the user's to set.
        LaunchError: if LLaMA-Factory fails.
    """
    recipe = find_recipe(settings.recipe)
    for key in settings.overrides:
        if key in OURS:
            raise GreamError(f"sft: {key!r} cannot be overridden: it is a file of the workspace")
    for path, command in ((workspace.model("base_model"), "base-model"), (workspace.align, "corpus align")):
        if not path.exists():
            raise GreamError(f"{path} is missing: run `gream {command}` first")
    describe = how_to_ask(workspace, recipe_keys(recipe, settings.overrides))
    folder = workspace.path("sft.training")
    if not open_attempt(folder, identity(settings, _reads(workspace, settings))):
        drop_unfinished(folder)
        words, environment = training_command(workspace, settings, recipe)
        caches = {"HF_DATASETS_CACHE": str(_datasets(folder).resolve()), **environment}
        launch(
            words,
            name="sft",
            workspace=workspace,
            environment=caches,
            progress=read_progress,
            phase="starting LLaMA-Factory",
        )
        mark_trained(folder)
    if (folder / "adapter_config.json").exists():
        merge_adapter(workspace, folder, recipe_keys(recipe, settings.overrides), describe)
    else:
        finish(folder, workspace.model("sft"), describe)


def recipe_keys(recipe: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What LLaMA-Factory is told; `GreamError` for a recipe that is no mapping of keys."""
    try:
        keys = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise GreamError(f"recipe {recipe} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(keys, dict):
        raise GreamError(f"recipe {recipe} must be a mapping of LLaMA-Factory's keys, such as template: qwen3")
    return {**keys, **overrides}


def training_command(workspace: Workspace, settings: SftSettings, recipe: Path) -> tuple[list[str], dict[str, str]]:
    """The command line and what it needs in its environment.

    ``llamafactory-cli`` builds its torchrun command as one string that it splits at blanks. Where a path has one we
    give torchrun the same words ourselves.
    """
    precision = {"bf16": multiplies_bfloat16()} if settings.precision == "auto" else {}
    keys = {
        **({} if settings.seed is None else {"seed": settings.seed}),
        **precision,
        **settings.overrides,
        "model_name_or_path": str(workspace.model("base_model").resolve()),
        "dataset_dir": str(workspace.corpus.resolve()),
        "output_dir": str(workspace.path("sft.training").resolve()),
        "overwrite_output_dir": False,  # so that it resumes from a checkpoint
    }
    words = [str(recipe), *(f"{key}={yaml_word(value)}" for key, value in keys.items())]
    if settings.processes is None or settings.processes == 1:
        alone = {"FORCE_TORCHRUN": "0"} if settings.processes else {}
        return [sys.executable, "-m", "llamafactory.cli", "train", *words], alone
    if any(re.search(r"\s", word) for word in [sys.executable, *words]):
        torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(settings.processes)]
        return [sys.executable, "-m", *torchrun, "-m", "llamafactory.launcher", *words], {}
    environment = {"FORCE_TORCHRUN": "1", "NNODES": "1", "NPROC_PER_NODE": str(settings.processes)}
    return [sys.executable, "-m", "llamafactory.cli", "train", *words], environment


def yaml_word(value: Any) -> str:
    """A value as LLaMA-Factory reads it off ``key=value``: YAML, on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]


def read_progress(line: str) -> Progress | None:
    """Read LLaMA-Factory's progress off its output: the bar without a name, and the loss."""
    found = LOSS.match(line)
    return Progress(note=f"loss {float(found[1]):.3f}") if found else bar_progress(line, "")


def drop_unfinished(folder: Path) -> None:
    """Remove checkpoints that were being written when the last attempt was killed, and a model without its end."""
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / "trainer_state.json").exists():  # the last file of a checkpoint
            shutil.rmtree(checkpoint)
    for pattern in WEIGHTS:
        for weights in folder.glob(pattern):
            weights.unlink()


def merge_adapter(
    workspace: Workspace, folder: Path, keys: Mapping[str, Any], describe: Callable[[Path], None]
) -> None:
    """Merge a LoRA adapter into the base model by LLaMA-Factory's export; the logs go along."""
    base = json.loads((workspace.model("base_model") / "config.json").read_text(encoding="utf-8"))
    with whole(workspace.model("sft")) as draft:
        words = {
            "model_name_or_path": str(workspace.model("base_model").resolve()),
            "adapter_name_or_path": str(folder.resolve()),
            "template": keys["template"],
            "finetuning_type": "lora",
            "infer_dtype": base.get("dtype") or base.get("torch_dtype") or "auto",
            "trust_remote_code": keys.get("trust_remote_code", False),
            "export_dir": str(draft.resolve()),
        }
        export = [sys.executable, "-m", "llamafactory.cli", "export", *_flags(words)]
        launch(export, name="sft-merge", workspace=workspace)
        for log in folder.glob("*.json*"):
            if not (draft / log.name).exists() and log.name != "adapter_config.json":
                shutil.copy2(log, draft)
        untie_if_apart(draft)
        describe(draft)
        _tidy(draft)
    shutil.rmtree(folder)


def untie_if_apart(model: Path) -> None:
    """Say in ``config.json`` that input and output embeddings are two, where an adapter trained both of a tied pair."""
    from safetensors import safe_open

    pair = []
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names: Sequence[str] = file.keys()
            pair += [file.get_tensor(name) for name in names if name.endswith(EMBEDDINGS)]
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    if config.get("tie_word_embeddings") and len(pair) == 2 and not pair[0].equal(pair[1]):
        config["tie_word_embeddings"] = False
        (model / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def finish(folder: Path, model: Path, describe: Callable[[Path], None]) -> None:
    """Turn the training folder into the model's: without checkpoints and caches, in one step."""
    if not any(folder.glob("*.safetensors")):
        raise GreamError(f"{folder} has no model: does the recipe train and save one?")
    describe(folder)  # before the folder loses what says that it is trained: this may fail
    _tidy(folder)
    with whole(model) as draft:
        folder.rename(draft)


def _tidy(folder: Path) -> None:
    for leftover in [*folder.glob("checkpoint-*"), _datasets(folder)]:
        shutil.rmtree(leftover, ignore_errors=True)
    for name in (IDENTITY, TRAINED, "training_args.bin"):  # the last is a pickle
        (folder / name).unlink(missing_ok=True)


def _flags(words: Mapping[str, Any]) -> list[str]:
    return [part for key, value in words.items() for part in (f"--{key}", str(value))]


def _datasets(folder: Path) -> Path:
    return folder / "datasets_cache"


def _reads(workspace: Workspace, settings: SftSettings) -> Sequence[Path]:
    recipe = find_recipe(settings.recipe)
    return [workspace.model("base_model"), recipe, *data_files(workspace, recipe, settings.overrides)]


def data_files(workspace: Workspace, recipe: Path, overrides: Mapping[str, Any]) -> list[Path]:
    """The files of the corpus that the recipe trains on and measures with; what else lies there is none of it."""
    keys = recipe_keys(recipe, overrides)
    try:
        entries = json.loads(dataset_info_path(workspace).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # LLaMA-Factory says so
        entries = {}
    named = (keys.get(key) or () for key in ("dataset", "eval_dataset"))
    names = [name.strip() for value in named for name in (value.split(",") if isinstance(value, str) else value)]
    return [workspace.corpus / entries.get(name, {}).get("file_name", f"{name}.jsonl") for name in dict.fromkeys(names)]


def _writes(workspace: Workspace, settings: SftSettings) -> Sequence[Path]:
    return (workspace.model("sft"),)


STAGE = Stage(name="sft", settings=SftSettings, run=run, reads=_reads, writes=_writes)
