"""The public Python API on a model that knows nothing."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import gream_ext
from gream_ext.errors import GreamError
from gream_ext.inference.export import write_export
from gream_ext.inference.source import workspace_source
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, read_table, write_table
from tests.support.tiny_workspace import make_model_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_model_workspace(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def model(workspace: Workspace) -> gream_ext.Recommender:
    return gream_ext.load(workspace.root, max_tokens=12)


def test_recommending(model: gream_ext.Recommender) -> None:
    found = model.recommend(["i1", "i2"], k=5, exclude_seen=True)
    assert len(found) == 5 and not {"i1", "i2"} & {one.item_id for one in found}
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert all(one.title == model.items[one.item_id] for one in found)
    assert len(model.recommend([], k=40)) == 40, "a new user, the whole catalogue"
    assert {"i1", "i2"} <= {one.item_id for one in model.recommend(["i1", "i2"], 40, exclude_seen=False)}
    some = {one.item_id for one in model.recommend(["i1"], 10, True, ["i1", "i5", "i6"], ["i6"])}
    assert some == {"i5"}
    assert {"i1", "i2"} <= {one.item_id for one in model.recommend(["i1", "i2"], 40)}, "these data have items twice"
    together = model.recommend_many([["i1", "i2"], []], k=5, exclude_seen=True)
    assert [one.item_id for one in together[0]] == [one.item_id for one in found]


def test_explaining(model: gream_ext.Recommender) -> None:
    told = model.explain(["i1", "i2"], seed=3)
    assert told == model.explain(["i1", "i2"], seed=3) and told != model.explain(["i1", "i2"], seed=4)
    assert told.tokens <= 12 and told.status and "<think>" not in told.text
    assert told.item is None or told.item.title == model.items[told.item.item_id]
    ranked = model.explain(["i1", "i2"], seed=3, k=5, reasonings=2)
    assert (ranked.text, ranked.item) == (told.text, told.item), "the first reasoning is the one that is shown"


def test_mistakes_have_a_sentence(model: gream_ext.Recommender, workspace: Workspace, tmp_path: Path) -> None:
    for said, ask in {
        "item 'nothing' is not in the catalogue": lambda: model.recommend(["nothing"]),
        "'i1' is one text, and a list of item ids": lambda: model.recommend("i1"),
        "k must be at least 1": lambda: model.recommend(["i1"], k=0),
        "has no trained model": lambda: gream_ext.load(tmp_path),
        "torch finds no such device": lambda: gream_ext.load(workspace.root, device="cuda:99"),
        "nothing is left to recommend": lambda: model.recommend(list(model.items), exclude_seen=True),
        "reasonings must be at least 1": lambda: model.explain(["i1"], k=3, reasonings=0),
    }.items():
        with pytest.raises(GreamError, match=said):
            ask()


def test_a_path_misspelt_asks_no_hub(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for name in ("runs/typo", str(tmp_path / "typo"), "typo"):
        with pytest.raises(GreamError, match="typo is no folder here: give a workspace, an export, or owner/name"):
            gream_ext.load(name)
    monkeypatch.setenv("HOME", str(workspace.root.parent))
    assert gream_ext.load(f"~/{workspace.root.name}").recommend(["i1"])


def test_whole_numbers_are_ids(tmp_path: Path) -> None:
    """As pandas has them where a table's ids are numbers."""
    workspace = make_model_workspace(tmp_path)
    number = pl.col("item_id").str.strip_prefix("i")
    for path, schema in ((workspace.items, ITEMS), (workspace.interactions, INTERACTIONS)):
        write_table(read_table(path, schema, "prepare").with_columns(item_id=number), path, schema)
    from gream_ext.items.index import ItemIndex

    index = ItemIndex.load(workspace.item_index)
    ItemIndex(tuple(item[1:] for item in index.item_ids), index.codes, index.sizes).save(workspace.item_index)
    model = gream_ext.load(str(workspace.root))
    assert model.recommend([1, 2], k=3) == model.recommend(["1", "2"], k=3)
    assert [one.item_id for one in model.recommend([1], only=[7])] == ["7"]


def test_an_export_is_loaded_by_the_same_call(
    workspace: Workspace, model: gream_ext.Recommender, tmp_path: Path
) -> None:
    write_export(workspace, workspace_source(workspace), tmp_path / "out")
    there = gream_ext.load(tmp_path / "out")
    assert there.recommend(["i1"]) == model.recommend(["i1"])
    with pytest.raises(GreamError, match="is an export of one model"):
        gream_ext.load(tmp_path / "out", model="sft")


def test_the_names_are_there_and_cost_nothing_before_they_are_used() -> None:
    code = (
        "import sys, gream_ext; before = set(sys.modules)\n"
        "assert not {'torch', 'numpy', 'polars', 'gream_ext.api'} & before\n"
        "assert {'load', 'metrics', 'GreamError'} <= set(dir(gream_ext))\n"
        "import numpy; print(gream_ext.metrics.recall_at(numpy.array([1, 0, 4]), 3), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        gream_ext.nothing  # noqa: B018
    assert (Path(gream_ext.__file__).parent / "py.typed").exists()
