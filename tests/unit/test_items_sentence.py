"""Sentence models: what the files of a folder say, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from gream_ext.errors import GreamError
from gream_ext.items.encoder_sentence import read_sentence_model
from gream_ext.items.encoders import open_encoder


def sentence_model(folder: Path, *kinds: str, **settings: dict[str, Any]) -> Path:
    """A folder of ``kinds``; a keyword ``pooling``, ``dense``, ``limits`` or ``about`` is what its file says."""
    folder.mkdir(exist_ok=True)
    places = {kind: "" if kind == "Transformer" else f"{number}_{kind}" for number, kind in enumerate(kinds)}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": place} for kind, place in places.items()]
    (folder / "modules.json").write_text(json.dumps(modules))
    names = {"pooling": "Pooling", "dense": "Dense"}
    for name, value in settings.items():
        files = {"limits": "sentence_bert_config.json", "about": "config_sentence_transformers.json"}
        path = folder / files[name] if name in files else folder / places[names[name]] / "config.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(value))
    return folder


def test_without_modules_it_is_a_causal_lm(tmp_path: Path) -> None:
    found = read_sentence_model(tmp_path)
    assert (found.transformer, found.pooling, found.longest, found.after) == (tmp_path, "last", None, ())


@pytest.mark.parametrize(
    ("pooling", "ours"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "first"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean", "embedding_dimension": 8}, "mean"),
        ({"pooling_mode": "cls"}, "first"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_poolings_as_earlier_and_later_versions_write_them(tmp_path: Path, pooling: dict[str, Any], ours: str) -> None:
    limits, about = (
        {"max_seq_length": 32, "do_lower_case": True},
        {"prompts": {"p": "is: "}, "default_prompt_name": "p"},
    )
    folder = sentence_model(tmp_path, "Transformer", "Pooling", pooling=pooling, limits=limits, about=about)
    found = read_sentence_model(folder)
    assert (found.pooling, found.longest, found.lower, found.prompt) == (ours, 32, True, "is: ")


def test_a_dense_layer_and_what_follows_by_hand(tmp_path: Path) -> None:
    dense = {"in_features": 2, "out_features": 1, "activation_function": "torch.nn.modules.activation.Tanh"}
    pooling = {"pooling_mode_mean_tokens": True}
    folder = sentence_model(tmp_path, "Transformer", "Pooling", "Dense", "Normalize", pooling=pooling, dense=dense)
    with pytest.raises(GreamError, match=r"2_Dense has no model\.safetensors, and pickled weights are not read"):
        read_sentence_model(folder)
    weights = {"linear.weight": torch.tensor([[1.0, 2.0]]), "linear.bias": torch.tensor([0.5])}
    save_file(weights, folder / "2_Dense" / "model.safetensors")
    layer, length = read_sentence_model(folder).after
    with torch.inference_mode():
        vectors = layer(torch.tensor([[0.25, -0.5]]))
        assert vectors.tolist() == [[pytest.approx(np.tanh(-0.25))]]
        assert length(vectors).tolist() == [[-1.0]]
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(GreamError, match=r"2_Dense.model\.safetensors is damaged"):
        read_sentence_model(folder)


REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    (("Transformer", "LSTM", "Pooling"), {}, r"is a sentence model of Transformer \+ LSTM \+ Pooling: only a"),
    (("CLIPModel",), {}, "is a sentence model of CLIPModel: only a Transformer, a Pooling"),
    (("Pooling", "Transformer"), {}, "is a sentence model of Pooling"),
    (("Transformer", "Pooling"), {}, r"1_Pooling.config\.json is missing: get the model again"),
    (("Transformer", "Pooling"), {"pooling": {"pooling_mode_max_tokens": True}}, "1_Pooling: its pooling is none of"),
    (
        ("Transformer", "Pooling"),
        {"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}},
        "1_Pooling: its pooling is none of",
    ),
    (("Transformer", "Pooling"), {"pooling": {"pooling_mode": "weightedmean"}}, "1_Pooling: its pooling is none of"),
    (("Transformer", "Pooling"), {"pooling": [1]}, r"config\.json is damaged \(it holds no JSON object\)"),
    (("Transformer", "Dense"), {"dense": {"activation_function": "x.Odd"}}, "1_Dense: a dense layer with Odd"),
    (("Transformer", "Dense"), {"dense": {"use_residual": True}}, "sentence_embedding, residual"),
    (("Transformer", "Dense"), {"dense": {"module_input_name": "token_embeddings"}}, "on token_embeddings"),
]


@pytest.mark.parametrize(("kinds", "settings", "message"), REFUSED)
def test_what_is_refused_in_a_line(tmp_path: Path, kinds: tuple[str, ...], settings: Any, message: str) -> None:
    folder = sentence_model(tmp_path, *kinds, **settings)
    with pytest.raises(GreamError, match=message) as caught:
        open_encoder(str(folder))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"type": 3}]'])
def test_a_damaged_list_of_modules(tmp_path: Path, text: str) -> None:
    (tmp_path / "modules.json").write_text(text)
    with pytest.raises(GreamError, match=r"modules\.json is damaged"):
        open_encoder(str(tmp_path))


@pytest.mark.parametrize("kinds", [("StaticEmbedding",), ("StaticEmbedding", "Normalize")])
def test_static_embeddings(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    folder = sentence_model(tmp_path, *kinds)
    place = folder / "0_StaticEmbedding"
    place.mkdir()
    with pytest.raises(GreamError, match=r"0_StaticEmbedding.model\.safetensors does not hold the static embeddings"):
        open_encoder(str(folder))
    tokenizer = Tokenizer(models.WordLevel({"velta": 0, "kazoo": 1, "[?]": 2}, unk_token="[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(place / "tokenizer.json"))
    save_file({"embedding.weight": torch.tensor([[6.0, 0.0], [0.0, 8.0], [9.0, 9.0]])}, place / "model.safetensors")
    vectors = open_encoder(str(folder)).encode(["velta kazoo", ""])
    expected = [[0.6, 0.8], [0.0, 0.0]] if len(kinds) > 1 else [[3.0, 4.0], [0.0, 0.0]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
