"""Encoders that are Hugging Face models: causal LMs (eqs 2–3) and sentence models."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from gream_ext.errors import GreamError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
POOLINGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "first",
    "pooling_mode_lasttoken": "last",
}


class TransformerEncoder:
    """A model in Hugging Face form, read from ``path`` (a folder or a .gguf file).

    A sentence model (``modules.json``) pools as its own files say; any other model is taken for a causal LM and
    gives the final layer's hidden state of the last token, eq. 3.
    """

    def __init__(self, path: Path, max_tokens: int = 512, device: str = "auto", dtype: str = "auto"):
        self._device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        wanted = ("bfloat16" if self._device.startswith("cuda") else "float32") if dtype == "auto" else dtype
        folder, more = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
        self._pooling, self._normalised, longest = _sentence_settings(folder)
        self._max_tokens = min(max_tokens, longest or max_tokens)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
            with _quiet():
                model, loaded = AutoModel.from_pretrained(
                    folder, local_files_only=True, dtype=DTYPES[wanted], output_loading_info=True, **more
                )
        except (OSError, ValueError, ImportError) as error:
            raise GreamError(f"{path} cannot be loaded as a model: {str(error).splitlines()[0]}") from None
        # transformers makes up random weights for those it does not find. The pooler's are not used.
        if missing := sorted(key for key in loaded["missing_keys"] if not key.startswith("pooler.")):
            raise GreamError(f"{path} lacks weights of the model its config.json names, the first {missing[0]}")
        self._model = model.to(self._device).eval()
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
        vectors = pool(hidden, batch["attention_mask"], self._pooling)
        if self._normalised:
            vectors = torch.nn.functional.normalize(vectors, dim=-1)
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


def _sentence_settings(folder: Path) -> tuple[str, bool, int | None]:
    """Pooling, whether vectors are normalised, and the longest input of a sentence model, if it says so."""
    if not (folder / "modules.json").is_file():
        return "last", False, None
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [module["type"].rsplit(".", 1)[-1] for module in modules]
    if strange := [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]:
        raise GreamError(f"{folder}: a sentence model with a module {strange[0]!r}, which is not supported")
    pooling = "mean"
    for module, kind in zip(modules, kinds, strict=True):
        if kind == "Pooling":
            settings = json.loads((folder / module["path"] / "config.json").read_text(encoding="utf-8"))
            chosen = [ours for theirs, ours in POOLINGS.items() if settings.get(theirs)]
            if len(chosen) != 1:
                raise GreamError(f"{folder}: its pooling is none of mean, first token, last token")
            pooling = chosen[0]
    limits = folder / "sentence_bert_config.json"
    longest = json.loads(limits.read_text(encoding="utf-8")).get("max_seq_length") if limits.is_file() else None
    return pooling, "Normalize" in kinds, longest
