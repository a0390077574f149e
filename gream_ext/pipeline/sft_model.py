"""What LLaMA-Factory's training folder becomes: a model folder that says how its model is asked."""

import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gream_ext.base_model.chat_format import compare, set_chat_template
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE, ModelFormat, write_format
from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.errors import GreamError
from gream_ext.pipeline.launch import launch
from gream_ext.pipeline.record import ATTEMPT, TRAINED, versions
from gream_ext.plugins.llamafactory.log import BEST, MEASURED, measured, remove_unfinished_checkpoints
from gream_ext.workspace import Workspace, whole

EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight")
CACHE = "datasets_cache"
"""In a training folder: what ``datasets`` writes."""


def how_to_ask(workspace: Workspace, keys: Mapping[str, Any]) -> Callable[[Path], None]:
    """Compare the prompts that will be trained with those that inference writes, and say what describes the model.

    Returns:
        what is to be called with the trained model's folder: it writes ``gream_model.json``, and the chat template
        where the base model's own differs from what was trained.

    Raises:
        GreamError: the template does not fit the base model, LLaMA-Factory does not know one of the keys, or the corpus
            does not say how it asks.
    """
    template = keys.get("template") or DEFAULT_TEMPLATE
    how = ModelFormat(read_prompt_settings(workspace), template, versions())
    found = compare(workspace.model("base_model"), template, dict(keys))
    if found.told:
        print(f"sft: the base model: {found.told}")

    def describe(folder: Path) -> None:
        if found.chat_template is not None:
            set_chat_template(folder, found.chat_template)
        write_format(folder, how)

    return describe


def drop_unfinished(folder: Path) -> None:
    """Remove checkpoints that were being written when the last attempt was killed, and a model without its end."""
    remove_unfinished_checkpoints(folder)
    for weights in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
        weights.unlink()


def merge_adapter(
    workspace: Workspace, folder: Path, keys: Mapping[str, Any], describe: Callable[[Path], None]
) -> None:
    """Merge a LoRA adapter into the base model by LLaMA-Factory's export; the logs go along."""
    base = json.loads((workspace.model("base_model") / "config.json").read_text(encoding="utf-8"))
    with whole(workspace.model("sft")) as draft:
        words = {
            "model_name_or_path": workspace.model("base_model").resolve(),
            "adapter_name_or_path": folder.resolve(),
            "template": keys["template"],
            "finetuning_type": "lora",
            "infer_dtype": base.get("dtype") or base.get("torch_dtype") or "auto",
            "trust_remote_code": keys.get("trust_remote_code", False),
            "export_dir": draft.resolve(),
        }
        flags = [part for key, value in words.items() for part in (f"--{key}", str(value))]
        launch([sys.executable, "-m", "llamafactory.cli", "export", *flags], name="sft-merge", workspace=workspace)
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
    for leftover in [*folder.glob("checkpoint-*"), folder / CACHE, (folder / BEST).parent]:
        shutil.rmtree(leftover, ignore_errors=True)
    for name in (ATTEMPT, TRAINED, "training_args.bin"):  # the last is a pickle
        (folder / name).unlink(missing_ok=True)


def summary(model: Path) -> str:
    """How far the training came, for people: the last loss, and the best measurement where there were any."""
    state: dict[str, Any] = {"log_history": [], "global_step": 0}
    if (model / "trainer_state.json").exists():
        state = json.loads((model / "trainer_state.json").read_text(encoding="utf-8"))
    parts = [f"{state['global_step']:,} steps"]
    parts += [f"loss {entry['loss']:.3f}" for entry in state["log_history"] if "loss" in entry][-1:]
    if found := [entry for entry in state["log_history"] if MEASURED[0] in entry]:
        best = max(found, key=lambda entry: [entry[name] for name in MEASURED])
        parts.append(f"best on validation users: {measured(best)}, after step {best['step']:,}")
    return f"sft: {'; '.join(parts)}; the model is {model}"
