"""Encoders that are Hugging Face models: causal LMs (eqs 2–3), and others whose tokens' mean is taken."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

from gream_ext.errors import GreamError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TransformerEncoder:
    """A model in Hugging Face form, read from ``path`` (a folder or a .gguf file).

    A text's vector is the final layer's hidden state of its last token, eq. 3, or, with ``pooling`` mean, the mean of
    its tokens' at length 1.
    """

    def __init__(
        self,
        path: Path,
        max_tokens: int = 512,
        device: str = "auto",
        dtype: str = "auto",
        pooling: Literal["last", "mean"] = "last",
    ):
        self._pooling = pooling
        self._device, wanted = resolved(device, dtype)
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        more: dict[str, Any] = {} if path.is_dir() else {"gguf_file": path.name}
        folder = path if path.is_dir() else path.parent
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local, **more)
            before = logging.get_verbosity()
            logging.set_verbosity_error()  # no report on weights that we judge ourselves
            model, loaded = AutoModel.from_pretrained(
                folder, **local, dtype=DTYPES[wanted], output_loading_info=True, **more
            )
            logging.set_verbosity(before)
        except (OSError, ValueError, ImportError) as error:
            raise GreamError(f"{path} cannot be loaded as a model: {str(error).splitlines()[0]}") from None
        # transformers makes up random weights for those it does not find. The pooler's are not used.
        if missing := sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler.")):
            raise GreamError(f"{path} lacks weights of the model its config.json names, the first {missing[0]}")
        self._model = model.to(self._device).eval()
        # What is longer than a model's positions would end in an index error deep inside it.
        positions = getattr(model.config, "max_position_embeddings", None)
        limits = (self._tokenizer.model_max_length, positions)
        self._max_tokens = min(max_tokens, *(int(limit) for limit in limits if limit))
        self._tokenizer.padding_side = self._tokenizer.truncation_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    @property
    def width(self) -> int:
        return int(self._model.config.hidden_size)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        batch = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        hidden = self._model(**batch).last_hidden_state.float()  # eq. 2: [texts, tokens, width]
        return pool(hidden, batch["attention_mask"], self._pooling).cpu().numpy()


def resolved(device: str, dtype: str) -> tuple[str, str]:
    """The device and number format that ``auto`` stands for: bfloat16 on a GPU."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return device, ("bfloat16" if device.startswith("cuda") else "float32") if dtype == "auto" else dtype


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a text: ``last`` (eq. 3), or ``mean`` of its tokens at length 1; padding stands on the right.

    ``hidden`` is [texts, tokens, width], ``mask`` [texts, tokens] with 1 for a token and 0 for padding.
    """
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return torch.nn.functional.normalize((hidden * weights).sum(dim=1), dim=-1)
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1).sub(1).clamp(min=0)]
