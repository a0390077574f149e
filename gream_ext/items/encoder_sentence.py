"""Sentence models: folders of sentence-transformers, read by that package."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gream_ext.errors import GreamError
from gream_ext.items.encoder_transformer import DTYPES, resolved


class SentenceEncoder:
    """The folder of a sentence model (``modules.json``); nothing is downloaded and no code in it is run."""

    def __init__(self, path: Path, max_tokens: int = 512, device: str = "auto", dtype: str = "auto"):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise GreamError(f"--encoder {path} is a sentence model: pip install 'gream-ext[sentence]'") from None
        check_modules(path)
        device, wanted = resolved(device, dtype)
        try:
            self._model: Any = SentenceTransformer(
                str(path),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"dtype": DTYPES[wanted], "use_safetensors": True},
            )
        except Exception as error:  # the package and its modules raise whatever they meet
            raise GreamError(f"{path} cannot be loaded as a sentence model: {str(error).splitlines()[0]}") from None
        longest = self._model.max_seq_length
        try:
            self._model.max_seq_length = max_tokens if longest is None else min(longest, max_tokens)
        except AttributeError:  # static embeddings have no such limit
            self._model.tokenizer.enable_truncation(max_tokens)

    @property
    def width(self) -> int:
        return int(self._model.get_embedding_dimension())

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        found = self._model.encode(list(texts), batch_size=len(texts), show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)


def check_modules(folder: Path) -> None:
    """`GreamError` for a damaged ``modules.json``, modules of other packages, and weights in pickles."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = [(str(module["type"]), folder / str(module["path"])) for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GreamError(f"{folder / 'modules.json'} is damaged ({error!r}): get the model again") from None
    for kind, place in kinds:
        if not kind.startswith("sentence_transformers."):
            raise GreamError(f"{folder} has a module {kind}, and code of others is not run: take another --encoder")
        if (place / "pytorch_model.bin").is_file() and not any(place.glob("*.safetensors")):
            raise GreamError(f"{place} has no model.safetensors, and pickled weights are not read: save the model anew")
