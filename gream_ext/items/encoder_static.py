"""Static embeddings: a text is the mean of its tokens' vectors, with no network in between."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gream_ext.errors import GreamError


class StaticEncoder:
    """Reads a table of token vectors (``embedding.weight`` of a safetensors file) and its tokenizer file."""

    def __init__(self, weights: Path, tokenizer: Path, max_tokens: int = 512):
        try:
            self._table = load_file(weights)["embedding.weight"].astype(np.float32)
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except (OSError, KeyError, SafetensorError) as error:
            raise GreamError(f"{weights} does not hold the static embeddings expected: {error}") from None
        except Exception as error:  # tokenizers raises nothing narrower
            raise GreamError(f"{tokenizer} is not a tokenizer: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    @property
    def width(self) -> int:
        return int(self._table.shape[1])

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.width), dtype=np.float32)
        for row, encoded in enumerate(self._tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if encoded.ids:
                vectors[row] = self._table[encoded.ids].mean(axis=0)
        return vectors
