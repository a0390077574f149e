"""The collaborative stream of the item index."""

import json

import numpy as np
import polars as pl
import pytest

from gream_ext.errors import GreamError
from gream_ext.items.collaborative import DIMENSIONS, beside, collaborative_vectors
from gream_ext.items.index import ItemIndex
from gream_ext.items.stages import ADD, BUILD, AddSettings, BuildSettings
from gream_ext.workspace import INTERACTIONS, ITEM_INDEX, ITEMS, Workspace, read_metadata, read_table, write_table
from tests.support.synthetic import GENRES, make_workspace

HALF = {"levels": 3, "codebook_size": 8, "collaborative": 0.5}


@pytest.fixture
def workspace(tmp_path):
    made = make_workspace(tmp_path / "run", users=200, items=80)
    vectors = np.random.default_rng(0).standard_normal((len(pl.read_parquet(made.items)), 12))
    np.save(made.embeddings, vectors.astype(np.float32))
    return made


def built(workspace, **settings):
    BUILD.run(workspace, BuildSettings(**{**HALF, **settings}))
    return workspace.item_index.read_bytes(), workspace.codebooks.read_bytes()


def test_items_that_the_same_users_buy_are_near_each_other():
    """Of two genres that nobody crosses and items that nobody buys."""
    rng = np.random.default_rng(0)
    items = [f"a{n}" for n in range(10)] + [f"b{n}" for n in range(10)] + ["nobody's"]
    histories = [rng.permutation([f"{genre}{n}" for n in range(10)]).tolist() for genre in "ab" * 30]
    vectors = collaborative_vectors(histories, items)
    assert vectors.shape == (21, min(DIMENSIONS, 20)) and vectors.dtype == np.float32
    near = vectors @ vectors.T
    assert near[:10, :10].min() > abs(near[:10, 10:]).max() + 0.1 and abs(vectors[20]).max() < 1e-6
    assert vectors.tobytes() == collaborative_vectors(histories, items).tobytes()
    assert not collaborative_vectors([["a0"]], items).any()


def test_the_weight_is_the_ratio_of_spreads():
    rng = np.random.default_rng(0)
    text, others = rng.standard_normal((50, 6)) + 9, 0.001 * rng.standard_normal((50, 3)) - 4
    both = beside(text, others, 0.5)
    squares = [((part - part.mean(0)) ** 2).sum() for part in (both[:, :6], both[:, 6:])]
    assert np.sqrt(squares[1] / squares[0]) == pytest.approx(0.5, rel=1e-4)
    np.testing.assert_allclose(both[:, :6], text, rtol=1e-6)
    assert not beside(text, np.zeros((50, 1)), 0.5)[:, 6:].any()


def test_the_index_is_of_training_interactions_alone_and_comes_out_the_same_again(workspace):
    """Other validation and test items, the same files; other training items, others."""
    before = built(workspace)
    assert built(workspace) == before
    interactions = read_table(workspace.interactions, INTERACTIONS, "prepare")
    held_out = pl.col("split") != "train"

    def exchanged(where):
        other = pl.col("item_id").reverse()
        write_table(
            interactions.with_columns(item_id=pl.when(where).then(other).otherwise("item_id")),
            workspace.interactions,
            INTERACTIONS,
        )

    exchanged(held_out)
    assert built(workspace) == before
    write_table(interactions.filter(~held_out), workspace.interactions, INTERACTIONS)
    assert built(workspace) == before
    exchanged(~held_out)
    assert built(workspace) != before


def test_it_brings_together_what_texts_cannot(workspace):
    """The texts here are noise; a genre is what users buy together."""
    categories = pl.read_parquet(workspace.items)["categories"].to_list()
    genres = np.array([GENRES.index(one[0]) for one in categories])

    def purity(**settings):
        built(workspace, **settings)
        first = ItemIndex.load(workspace.item_index).codes[:, 0]
        return np.mean([np.bincount(genres[first == code]).max() / (first == code).sum() for code in np.unique(first)])

    assert purity(collaborative=4.0) > purity(collaborative=0.0) + 0.2
    assert "collaborative" not in read_metadata(workspace.item_index, ITEM_INDEX, "")


def test_off_it_reads_no_interactions_and_changes_nothing(workspace):
    assert workspace.interactions in BUILD.reads(workspace, BuildSettings(**HALF))
    plain = BuildSettings(levels=3, codebook_size=8)
    assert workspace.interactions not in BUILD.reads(workspace, plain)
    workspace.interactions.unlink()
    BUILD.run(workspace, plain)


def test_what_has_no_vectors_is_refused(workspace, tmp_path):
    codes = tmp_path / "codes.jsonl"
    codes.write_text("".join(json.dumps({"item_id": item, "codes": [n]}) + "\n" for n, item in enumerate("ab")))
    with pytest.raises(GreamError, match="--collaborative need vectors"):
        BUILD.run(workspace, BuildSettings(from_file=str(codes), collaborative=0.5))
    built(workspace)
    assert read_metadata(workspace.item_index, ITEM_INDEX, "")["collaborative"] == 0.5
    second = Workspace(tmp_path / "second")
    write_table(pl.read_parquet(workspace.items), second.items, ITEMS)
    with pytest.raises(GreamError, match="was built with --collaborative"):
        ADD.run(second, AddSettings(str(workspace.root)))
