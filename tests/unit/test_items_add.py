"""New items in an index that stands."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.errors import GreamError
from gream_ext.items.add import place_new
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.items.stages import ADD, BUILD, AddSettings, BuildSettings
from gream_ext.workspace import ITEM_INDEX, ITEMS, Workspace, read_metadata, write_table
from tests.support.synthetic import make_workspace


def vectors_of(items, seed=0):
    return np.random.default_rng(seed).standard_normal((items, 6)).astype(np.float32)


def part(folder, whole, rows):
    """A workspace with some rows of another's items and vectors."""
    made = Workspace(folder)
    write_table(pl.read_parquet(whole.items)[rows], made.items, ITEMS)
    np.save(made.embeddings, np.load(whole.embeddings)[rows])
    return made


@pytest.fixture
def everything(tmp_path):
    workspace = make_workspace(tmp_path / "everything", users=30, items=60)
    vectors = vectors_of(len(pl.read_parquet(workspace.items)))
    vectors[41] = vectors[42] = vectors[3]
    np.save(workspace.embeddings, vectors)
    return workspace


@pytest.mark.parametrize("slot", ["always", "colliding", "none"])
def test_old_items_keep_their_identifiers(tmp_path, everything, slot, capsys):
    first = part(tmp_path / "first", everything, list(range(40)))
    reassign = slot == "none"
    BUILD.run(first, BuildSettings(levels=3, codebook_size=8, conflict_slot=slot, reassign=reassign))
    before = first.item_index.read_bytes()
    old = ItemIndex.load(first.item_index)
    rows = [*range(50, 40, -1), *range(30)]  # another order, ten of the old are gone, ten are new
    second = part(tmp_path / "second", everything, rows)
    ADD.run(second, AddSettings(str(first.root)))
    assert first.item_index.read_bytes() == before
    index = ItemIndex.load(second.item_index)  # refuses duplicates and prefixes
    kept = set(old.item_ids) & set(index.item_ids)
    assert len(kept) == 30 and all(index.identifier(item) == old.identifier(item) for item in kept)
    assert "10 items added" in capsys.readouterr().out
    gone = {old.identifier(item) for item in old.item_ids if item not in kept}
    assert not gone & set(index.identifiers)
    # What is kept back stays so when the index is extended once more.
    third = part(tmp_path / "third", everything, list(range(60)))
    ADD.run(third, AddSettings(str(second.root)))
    assert not gone & set(ItemIndex.load(third.item_index).identifiers)
    assert read_metadata(third.item_index, ITEM_INDEX, "")["conflict_slot"] == slot


def test_vectors_of_another_encoder_are_refused(tmp_path, everything):
    first = part(tmp_path / "first", everything, list(range(40)))
    BUILD.run(first, BuildSettings(levels=2, codebook_size=8))
    with pytest.raises(GreamError, match="is the workspace to write to"):
        ADD.run(first, AddSettings(str(first.root)))
    second = part(tmp_path / "second", everything, list(range(60)))
    np.save(second.embeddings, -3 * np.load(second.embeddings)[::-1])
    with pytest.raises(GreamError, match="old items are still nearest to their first code"):
        ADD.run(second, AddSettings(str(first.root)))
    np.save(second.embeddings, np.zeros((60, 5), np.float32))
    with pytest.raises(GreamError, match="has 5 numbers a vector"):
        ADD.run(second, AddSettings(str(first.root)))
    first.codebooks.write_bytes(first.codebooks.read_bytes()[:-1] + b"x")
    with pytest.raises(GreamError, match="is not the file that its item index was made with"):
        ADD.run(second, AddSettings(str(first.root)))


BOOKS = [np.array([[0.0], [10.0]], np.float32), np.array([[0.0], [1.0], [2.0]], np.float32)]


def test_places_by_hand():
    taken = np.array([[0, 0, 0], [0, 1, NO_CODE]])
    codes, elsewhere = place_new(np.array([[0.1], [0.9], [0.2], [1.9]]), "abcd", taken, BOOKS, (2, 3, 3), "colliding")
    # b may not join (0, 1), whose only item has no slot, and takes the last of (0, 0), so that c must go to (0, 2).
    assert codes.tolist() == [[0, 0, 1], [0, 0, 2], [0, 2, 0], [0, 2, 1]]
    assert elsewhere == 2
    with pytest.raises(GreamError, match=r"item 'c': every identifier below \(0,\) is taken"):
        place_new(np.zeros((3, 1)), "abc", np.array([[0, 0]]), BOOKS, (2, 3), "none")


@given(
    st.lists(st.floats(0, 12), max_size=12),
    st.sets(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=6),
    st.sampled_from(["always", "colliding", "none"]),
)
def test_every_identifier_stays_unique(places, leaves, slot):
    length = 3 if slot != "none" else 2
    fill = 0 if slot == "always" else NO_CODE
    taken = np.array([[*leaf, fill][:length] for leaf in sorted(leaves)], dtype=np.int32).reshape(-1, length)
    sizes = (2, 3, 4)[:length]
    names = [f"new {row}" for row in range(len(places))]
    try:
        codes, _ = place_new(np.array(places).reshape(-1, 1), names, taken, BOOKS, sizes, slot)
    except GreamError:
        return
    ItemIndex((*names, *map(str, range(len(taken)))), np.concatenate([codes, taken]).astype(np.int32), sizes)
