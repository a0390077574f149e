"""Encoders on real models: a tiny causal LM made here, and the sentence models that come as packages."""

import importlib.util

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from gream_ext.errors import GreamError
from gream_ext.items.encoders import PACKAGES, open_encoder

pytestmark = pytest.mark.integration
TEXTS = ["velta", "velta kazoo brosa", "brosa brosa kazoo velta velta kazoo", "kazoo velta"]


@pytest.fixture(scope="module")
def causal_lm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    words = Tokenizer(models.WordLevel({"velta": 0, "kazoo": 1, "brosa": 2, "[end]": 3}, unk_token="[end]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[end]").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8}
    config = Qwen3Config(vocab_size=4, num_attention_heads=4, num_key_value_heads=2, **sizes)
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def test_causal_lm_gives_the_last_hidden_state(causal_lm):
    encoder = open_encoder(str(causal_lm))
    model = Qwen3ForCausalLM.from_pretrained(causal_lm).eval()
    for text, vector in zip(TEXTS, encoder.encode(TEXTS), strict=True):
        ids = torch.tensor([[["velta", "kazoo", "brosa"].index(word) for word in text.split()]])
        with torch.inference_mode():
            expected = model(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)
    assert encoder.width == 32


def test_what_stands_beside_a_text_changes_nothing(causal_lm):
    encoder = open_encoder(str(causal_lm))
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode(TEXTS), alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS[::-1])[::-1], alone, atol=1e-5)


def test_long_texts_are_cut_off(causal_lm):
    short = open_encoder(str(causal_lm), max_tokens=2).encode(["velta kazoo", "velta kazoo brosa"])
    np.testing.assert_allclose(short[0], short[1], atol=1e-6)


def test_a_model_with_missing_weights_is_refused(causal_lm, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in causal_lm.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GreamError, match=r"lacks weights of the model .*layers\.1\.mlp\.up_proj"):
        open_encoder(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(GreamError, match="cannot be loaded as a model"):
        open_encoder(str(tmp_path))


@pytest.mark.parametrize(("name", "width"), [("minilm", 384), ("wordllama", 256)])
def test_packaged_sentence_models(name, width):
    if importlib.util.find_spec(PACKAGES[name][0]) is None:
        pytest.skip(f"{PACKAGES[name][1]} is not installed")
    texts = [
        "a romantic comedy in Paris",
        "a love story with jokes, set in France",
        "stainless steel bolts, pack of 20",
    ]
    encoder = open_encoder(name)
    vectors = encoder.encode(texts)
    assert vectors.shape == (3, width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(encoder.encode(texts[2:]), vectors[2:], atol=1e-5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > unit[0] @ unit[2] + 0.1


@pytest.mark.parametrize("dense", [False, True])
def test_a_folder_that_sentence_transformers_wrote_gives_its_vectors(causal_lm, tmp_path, dense):
    theirs = pytest.importorskip("sentence_transformers")
    from sentence_transformers import models as modules

    transformer = modules.Transformer(str(causal_lm), max_seq_length=5)
    transformer.tokenizer.pad_token = transformer.tokenizer.eos_token
    parts = [transformer, modules.Pooling(32, pooling_mode="lasttoken" if dense else "mean")]
    torch.manual_seed(1)
    parts += [modules.Dense(32, 12, activation_function=torch.nn.GELU()), modules.Normalize()] if dense else []
    model = theirs.SentenceTransformer(modules=parts, device="cpu")
    model.save(str(tmp_path / "model"))
    expected = model.encode(TEXTS)
    encoder = open_encoder(str(tmp_path / "model"))
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-5)
    assert encoder.width == expected.shape[1] == (12 if dense else 32)
