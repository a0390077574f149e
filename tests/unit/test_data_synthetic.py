"""The made-up data that other tests stand on."""

import pytest

from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.items.index import NO_CODE, ItemIndex
from tests.support.synthetic import make_workspace, write_synthetic_source


def test_source_is_the_same_for_a_seed(tmp_path):
    first = write_synthetic_source(tmp_path / "a")
    second = write_synthetic_source(tmp_path / "b")
    other = write_synthetic_source(tmp_path / "c", seed=1)
    for name in ("interactions.csv", "items.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


@pytest.mark.parametrize(("slot", "length"), [("always", 5), ("colliding", 5), ("none", 4)])
def test_workspace_is_readable(tmp_path, slot, length):
    workspace = make_workspace(tmp_path / "run", users=20, items=40, slot=slot)
    index = ItemIndex.load(workspace.item_index)
    assert index.length == length
    assert (index.codes[:, -1] == NO_CODE).any() == (slot == "colliding")
    histories = training_histories(workspace)
    assert len(histories) == 20
    assert {item for history in histories.values() for item in history} <= set(index.item_ids)
    assert all(case.target in index.position for case in evaluation_cases(workspace, "test"))
