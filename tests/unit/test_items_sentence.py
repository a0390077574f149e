"""Folders of sentence models: read by their own package, or refused in a line."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from gream_ext.errors import GreamError
from gream_ext.items.encoders import open_encoder

OURS = "sentence_transformers.models."


def sentence_model(folder: Path, *kinds: str) -> Path:
    modules = [{"type": kind, "path": f"{number}_{kind.rsplit('.')[-1]}"} for number, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def test_code_of_others_is_not_run(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(GreamError, match=r"has a module modeling\.Mine, and code of others is not run"):
        open_encoder(str(sentence_model(tmp_path, f"{OURS}Transformer", "modeling.Mine")))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    folder = sentence_model(tmp_path, f"{OURS}Transformer", f"{OURS}Dense")
    (folder / "1_Dense").mkdir()
    (folder / "1_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(GreamError, match=r"1_Dense has no model\.safetensors, and pickled weights are not read"):
        open_encoder(str(folder))


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"type": 3}]'])
def test_a_damaged_list_of_modules(tmp_path: Path, text: str) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(GreamError, match=r"modules\.json is damaged"):
        open_encoder(str(tmp_path))


def test_a_model_that_cannot_be_loaded_is_said_in_a_line(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(GreamError, match="cannot be loaded as a sentence model") as caught:
        open_encoder(str(sentence_model(tmp_path, f"{OURS}Transformer", f"{OURS}Pooling")))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_without_the_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(GreamError, match=r"pip install 'gream-ext\[sentence\]'"):
        open_encoder(str(sentence_model(tmp_path, f"{OURS}Transformer")))


@pytest.mark.parametrize("normalised", [False, True])
def test_static_embeddings(tmp_path: Path, normalised: bool) -> None:
    theirs = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models as modules

    tokenizer = Tokenizer(models.WordLevel({"velta": 0, "kazoo": 1, "[?]": 2}, unk_token="[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    weights = np.array([[6.0, 0.0], [0.0, 8.0], [9.0, 9.0]], dtype=np.float32)
    parts: list[torch.nn.Module] = [modules.StaticEmbedding(tokenizer, embedding_weights=weights)]
    theirs.SentenceTransformer(modules=[*parts, *([modules.Normalize()] if normalised else [])]).save(str(tmp_path))
    encoder = open_encoder(str(tmp_path))
    vectors = encoder.encode(["velta kazoo", ""])
    expected = [[0.6, 0.8], [0.0, 0.0]] if normalised else [[3.0, 4.0], [0.0, 0.0]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    assert open_encoder(str(tmp_path), max_tokens=1).encode(["velta kazoo"])[0, 1] == 0, "the second is cut off"
    assert encoder.width == 2 and vectors.dtype == np.float32
