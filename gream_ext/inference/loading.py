"""Loading a model folder onto a device: safetensors alone; nothing is fetched, no code of the folder is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from gream_ext.errors import GreamError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder."""
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise GreamError(f"{folder} has no tokenizer that can be loaded: {_first_line(error)}") from None
    return tokenizer


def load_model(
    folder: Path, device: str = "cpu", dtype: str = "auto"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Model and tokenizer of a folder in Hugging Face form; ``dtype`` auto is the number format on disk."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    if not (folder / "config.json").exists():
        raise GreamError(f"{folder} is no model folder (it has no config.json): train or name a model first")
    logging.disable_progress_bar()
    tokenizer = load_tokenizer(folder)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise GreamError(f"{folder} cannot be loaded as a causal language model: {_first_line(error)}") from None
    return model.to(device).eval(), tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def chosen_device(device: str) -> str:
    """``device``, and for ``auto`` cuda where there is one, else cpu."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """`GreamError` unless torch can compute on ``device`` here; ``auto`` and ``cpu`` pass without importing torch."""
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        named = torch.device(device)
        kind = torch.get_device_module(named)
        found = kind.device_count() if kind.is_available() else 0
    except (RuntimeError, AttributeError):  # no device of that name, or one without a number of its own, as meta
        found, named = 0, torch.device("cpu")
    if (named.index or 0) >= found:
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        raise GreamError(f"--device {device}: torch finds no such device here, only {there}")
