"""Sentence models: what a folder of sentence-transformers says is done with a transformer's hidden states.

Only its files are read; its Python package is not needed.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from gream_ext.errors import GreamError

KINDS = ("Transformer", "Pooling", "Dense", "Normalize")
POOLINGS = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""Theirs and ours; earlier versions have a key for each, true for one."""
EARLIER_POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}
ACTIVATIONS = {one.__name__: one for one in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid)}


class Normalize(nn.Module):
    """Every vector to length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(vectors, dim=-1)


@dataclass(frozen=True)
class SentenceModel:
    """What stands around a transformer; the defaults are those of a causal LM, eq. 3."""

    transformer: Path
    """The folder of its weights and tokenizer."""
    pooling: str = "last"
    longest: int | None = None
    """Tokens of the longest input."""
    lower: bool = False
    prompt: str = ""
    """Stands before every text."""
    after: tuple[nn.Module, ...] = ()
    """What the pooled vectors go through, in this order."""


def read_sentence_model(folder: Path) -> SentenceModel:
    """What ``modules.json`` says; `GreamError` for modules we do not have. Without one: a causal LM."""
    if not (folder / "modules.json").is_file():
        return SentenceModel(folder)
    modules = read_modules(folder)
    kinds = [kind for kind, _ in modules]
    strange = next((kind for kind in kinds if kind not in KINDS), None)
    if strange or kinds.count("Transformer") != 1 or kinds[0] != "Transformer" or kinds.count("Pooling") > 1:
        raise GreamError(
            f"{folder} is a sentence model of {' + '.join(kinds)}: only a Transformer, a Pooling and then Dense and "
            "Normalize are read; take another --encoder"
        )
    transformer = modules[0][1]
    limits = _optional(transformer / "sentence_bert_config.json")
    prompts = _optional(folder / "config_sentence_transformers.json")
    pooling = [path for kind, path in modules if kind == "Pooling"]
    return SentenceModel(
        transformer,
        _pooling(pooling[0]) if pooling else "mean",
        limits.get("max_seq_length"),
        bool(limits.get("do_lower_case")),
        str((prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"), "")),
        tuple(Normalize() if kind == "Normalize" else _dense(path) for kind, path in modules if kind in KINDS[2:]),
    )


def read_modules(folder: Path) -> Sequence[tuple[str, Path]]:
    """The modules of a folder of sentence-transformers in their order: the kind of each and its own folder."""
    try:
        return [
            (str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"]))
            for module in json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GreamError(f"{folder / 'modules.json'} is damaged ({error!r}): get the model again") from None


def _pooling(folder: Path) -> str:
    settings = _settings(folder)
    chosen = settings.get("pooling_mode")
    found = [ours for theirs, ours in EARLIER_POOLINGS.items() if settings.get(theirs)]
    others = [name for name in settings if name.startswith("pooling_mode_") and name not in EARLIER_POOLINGS]
    if chosen is not None:
        found = [POOLINGS[chosen]] if chosen in POOLINGS else []
    elif any(settings[name] for name in others):
        found = []
    if len(found) != 1:
        raise GreamError(f"{folder}: its pooling is none of mean, first token, last token; take another --encoder")
    return found[0]


def _dense(folder: Path) -> nn.Module:
    settings = _settings(folder)
    name = str(settings.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    named = settings.get("module_input_name", "sentence_embedding")
    if name not in ACTIVATIONS or settings.get("use_residual") or named != "sentence_embedding":
        raise GreamError(
            f"{folder}: a dense layer with {name}, on {named}{', residual' if settings.get('use_residual') else ''}: "
            f"read are those on sentence_embedding with {', '.join(ACTIVATIONS)}; take another --encoder"
        )
    file = folder / "model.safetensors"
    if not file.is_file():
        raise GreamError(f"{folder} has no model.safetensors, and pickled weights are not read: save the model anew")
    try:
        weights = load_file(file)
        weight, bias = weights["linear.weight"].float(), weights.get("linear.bias")
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        linear.load_state_dict({"weight": weight, **({} if bias is None else {"bias": bias.float()})})
    except (OSError, KeyError, IndexError, RuntimeError, SafetensorError) as error:
        raise GreamError(f"{file} is damaged ({str(error).splitlines()[0]}): get the model again") from None
    return nn.Sequential(linear, ACTIVATIONS[name]())


def _settings(folder: Path) -> Mapping[str, Any]:
    if not (folder / "config.json").is_file():
        raise GreamError(f"{folder / 'config.json'} is missing: get the model again")
    return _optional(folder / "config.json")


def _optional(path: Path) -> Mapping[str, Any]:
    """The object of a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise GreamError(f"{path} is damaged ({error}): get the model again") from None
    if not isinstance(value, dict):
        raise GreamError(f"{path} is damaged (it holds no JSON object): get the model again")
    return value
