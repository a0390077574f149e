"""Encoders that are Hugging Face models: causal LMs (eqs 2–3) and sentence models."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from gream_ext.errors import GreamError
from gream_ext.items.encoder_sentence import SentenceModel, read_sentence_model

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TransformerEncoder:
    """A model in Hugging Face form, read from ``path`` (a folder or a .gguf file).

    A sentence model (``modules.json``) pools as its own files say; any other model is taken for a causal LM and
    gives the final layer's hidden state of the last token, eq. 3.
    """

    def __init__(self, path: Path, max_tokens: int = 512, device: str = "auto", dtype: str = "auto"):
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        wanted = ("bfloat16" if self._device.startswith("cuda") else "float32") if dtype == "auto" else dtype
        local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        more: dict[str, Any] = {} if path.is_dir() else {"gguf_file": path.name}
        self._sentence = read_sentence_model(path) if path.is_dir() else SentenceModel(path.parent)
        folder = self._sentence.transformer
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local, **more)
            with _quiet():
                model, loaded = AutoModel.from_pretrained(
                    folder, **local, dtype=DTYPES[wanted], output_loading_info=True, **more
                )
        except (OSError, ValueError, ImportError) as error:
            raise GreamError(f"{path} cannot be loaded as a model: {str(error).splitlines()[0]}") from None
        # transformers makes up random weights for those it does not find. The pooler's are not used.
        if missing := sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler.")):
            raise GreamError(f"{path} lacks weights of the model its config.json names, the first {missing[0]}")
        self._model = model.to(self._device).eval()
        self._after = torch.nn.Sequential(*self._sentence.after).to(self._device).eval()
        # What is longer than a model's positions would end in an index error deep inside it.
        positions = getattr(model.config, "max_position_embeddings", None)
        limits = (self._sentence.longest, self._tokenizer.model_max_length, positions)
        self._max_tokens = min(max_tokens, *(int(limit) for limit in limits if limit))
        self._tokenizer.padding_side = self._tokenizer.truncation_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    @property
    def width(self) -> int:
        wide = [one.out_features for one in self._after.modules() if isinstance(one, torch.nn.Linear)]
        return int(wide[-1] if wide else self._model.config.hidden_size)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        asked = [self._sentence.prompt + text for text in texts]
        if self._sentence.lower:
            asked = [text.lower() for text in asked]
        batch = self._tokenizer(
            asked, padding=True, truncation=True, max_length=self._max_tokens, return_tensors="pt"
        ).to(self._device)
        hidden = self._model(**batch).last_hidden_state.float()  # eq. 2: [texts, tokens, width]
        vectors: torch.Tensor = self._after(pool(hidden, batch["attention_mask"], self._sentence.pooling))
        return vectors.cpu().numpy()


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One vector a text: ``last`` (eq. 3), ``first`` or ``mean`` of its tokens; padding stands on the right.

    ``hidden`` is [texts, tokens, width], ``mask`` [texts, tokens] with 1 for a token and 0 for padding.
    """
    if pooling == "mean":
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    position = mask.sum(dim=1).sub(1).clamp(min=0) if pooling == "last" else torch.zeros_like(mask[:, 0])
    return hidden[torch.arange(len(hidden), device=hidden.device), position]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' report on weights that we judge ourselves."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
