"""Loading a model folder: safetensors and the tokenizer; nothing is fetched, and no code of the folder is run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from safetensors import SafetensorError
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
