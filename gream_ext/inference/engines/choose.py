"""An engine by its name, on the model of a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.trie import ItemTrie
from gream_ext.inference.engines.base import Engine
from gream_ext.inference.engines.names import EngineName, check_engine
from gream_ext.inference.engines.sglang import SGLangEngine
from gream_ext.inference.engines.transformers import TransformersEngine
from gream_ext.inference.loading import load_model, load_tokenizer


def open_engine(
    engine: EngineName,
    model: Path,
    make_trie: Callable[[Any], ItemTrie],
    device: str = "cpu",
    dtype: str = "auto",
    server: str | None = None,
    normalisation: Normalisation = "catalogue",
    **batches: Any,
) -> Engine:
    """The engine, ready to answer. ``make_trie`` takes the tokenizer.

    ``batches`` are what `TransformersEngine` takes about what is computed together; SGLang sizes its batches itself.
    """
    check_engine(engine, server)
    if engine == "transformers":
        loaded, tokenizer = load_model(model, device, dtype)
        return TransformersEngine(loaded, tokenizer, make_trie(tokenizer), normalisation, **batches)
    tokenizer = load_tokenizer(model)
    if server is not None:
        return SGLangEngine.connect(server, tokenizer, make_trie(tokenizer), normalisation)
    kind, _, number = device.partition(":")
    placed: dict[str, Any] = {"device": kind, **({"base_gpu_id": int(number)} if number else {})}
    return SGLangEngine.launch(model, tokenizer, make_trie(tokenizer), normalisation, dtype=dtype, **placed)
