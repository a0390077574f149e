"""A pretrained causal LM and tokenizer, from a folder, the hub or a GGUF file; refused where decoding cannot use it."""

from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from gream_ext.base_model.gguf import SMOLLM2, load_gguf, smollm2_file
from gream_ext.errors import GreamError
from gream_ext.hub import model_folder


def load_pretrained(name: str, trust_remote_code: bool = False) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Model and tokenizer of ``name``: a folder, a name on the Hugging Face hub, a .gguf file or ``smollm2``.

    Raises:
        GreamError: it cannot be loaded, has a slow tokenizer, or keeps no keys and values.
    """
    logging.disable_progress_bar()
    path = smollm2_file() if name == SMOLLM2 else model_folder(name, trust_remote_code)
    if path.suffix == ".gguf" and path.is_file():
        return load_gguf(path)
    if not (path / "config.json").is_file():
        raise GreamError(
            f"base_model {path} is neither a folder with a config.json, nor a .gguf file, nor {SMOLLM2!r}, nor a name "
            "on the hub such as Qwen/Qwen3-4B-Instruct-2507"
        )
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **trust)
        model = AutoModelForCausalLM.from_pretrained(path, dtype="auto", **trust)
    except (OSError, ValueError, ImportError) as error:
        raise GreamError(f"base_model {name} cannot be loaded: {str(error).strip().splitlines()[0]}") from None
    if not tokenizer.is_fast:
        raise GreamError(f"base_model {name} has a slow tokenizer: save it with tokenizer.json first")
    check_keeps_keys_and_values(model, name)
    model.name_or_path = Path(name).name
    return cast(PreTrainedModel, model), cast(PreTrainedTokenizerFast, tokenizer)


def check_keeps_keys_and_values(model: Any, name: str) -> None:
    """`GreamError` unless every layer keeps the keys and values of what was read, which both modes decode with."""
    with torch.inference_mode():
        try:
            read = model(input_ids=torch.tensor([[1, 2, 3]], device=model.device), use_cache=True)
            cache: Any = getattr(read, "past_key_values", None)
            layers = cache.layers if type(cache).__module__ == Cache.__module__ else []
            keeps = bool(layers) and all(layer.keys.shape[-2] == 3 for layer in layers)
        except (AttributeError, TypeError, ValueError, RuntimeError):
            keeps = False
    if not keeps:
        raise GreamError(
            f"base_model {name} is a {model.config.model_type}, which does not keep keys and values in every layer as "
            "decoding needs it: choose a decoder with attention in every layer, such as Qwen3, Llama or Gemma"
        )
