"""The stages `index build` and `index report`."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from gream_ext.errors import GreamError
from gream_ext.extras.report.stages import INDEX, IndexReportSettings
from gream_ext.items.build import fitting_codebook_size
from gream_ext.items.index import NO_CODE, ItemIndex
from gream_ext.items.measures import code_quality, quantisation_errors, random_codes, shared_levels
from gream_ext.items.stages import BUILD, BuildSettings
from gream_ext.pipeline.execute import execute
from gream_ext.workspace import ITEMS, write_table
from tests.support.synthetic import GENRES, make_workspace


@pytest.fixture
def workspace(tmp_path):
    workspace = make_workspace(tmp_path / "run", users=30, items=48)
    workspace.item_index.unlink()
    chance = np.random.default_rng(0)
    items = pl.read_parquet(workspace.items)
    genres = np.array([GENRES.index(categories[0]) for categories in items["categories"].to_list()])
    centres = 4 * chance.standard_normal((len(GENRES), 16))
    vectors = (centres[genres] + chance.standard_normal((len(items), 16))).astype(np.float32)
    vectors[5] = vectors[13]  # two items that nothing tells apart
    np.save(workspace.embeddings, vectors)
    return workspace


def run(workspace, **settings):
    BUILD.run(workspace, BuildSettings(**{"levels": 3, "codebook_size": 8, **settings}))
    return ItemIndex.load(workspace.item_index)


def test_index_and_what_stands_beside_it(workspace, capsys):
    index = run(workspace)
    assert index.sizes == (8, 8, 8, 4)
    assert index.identifiers[5][:3] == index.identifiers[13][:3]
    assert index.item_ids == tuple(pl.read_parquet(workspace.items)["item_id"])
    codebooks = load_file(workspace.codebooks)
    assert [codebooks[f"level_{level}"].shape for level in range(3)] == [(8, 16)] * 3
    found = json.loads(workspace.path("index_quality.json").read_text())
    assert found["raw_collision_rate"] == pytest.approx(1 - len(np.unique(index.codes[:, :3], axis=0)) / 48)
    assert "48 items, raw collision rate" in capsys.readouterr().out


def test_same_seed_same_files(workspace):
    run(workspace)
    names = ("item_index.parquet", "codebooks.safetensors", "index_quality.json")
    before = [workspace.path(name).read_bytes() for name in names]
    run(workspace)
    assert [workspace.path(name).read_bytes() for name in names] == before


def test_order_of_the_items_changes_nothing_but_the_rows(workspace):
    before = run(workspace)
    items, vectors = pl.read_parquet(workspace.items), np.load(workspace.embeddings)
    order = np.random.default_rng(1).permutation(len(items))
    write_table(items[order], workspace.items, ITEMS)
    np.save(workspace.embeddings, vectors[order])
    after = run(workspace)
    assert after.item_ids == tuple(before.item_ids[row] for row in order)
    assert all(after.identifier(item) == before.identifier(item) for item in before.item_ids)


def test_conflict_slot_where_it_is_needed(workspace):
    index = run(workspace, conflict_slot="colliding")
    assert index.codes[5, -1] != NO_CODE
    assert (index.codes[:, -1] == NO_CODE).any()
    with pytest.raises(GreamError, match="set --conflict-slot always or colliding"):
        run(workspace, conflict_slot="none")


def test_refuses_vectors_of_other_items(workspace):
    np.save(workspace.embeddings, np.zeros((3, 2), np.float32))
    with pytest.raises(GreamError, match=r"has shape \(3, 2\), but there are 48 items: run `gream embed` again"):
        run(workspace)
    workspace.embeddings.write_bytes(b"nothing")
    with pytest.raises(GreamError, match=r"embeddings.npy is damaged"):
        run(workspace)
    workspace.embeddings.unlink()
    with pytest.raises(GreamError, match=r"embeddings.npy is missing: run `gream embed` first"):
        run(workspace)
    assert not workspace.item_index.exists()


@pytest.mark.parametrize(
    ("items", "size"), [(10, 4), (80, 4), (400, 8), (1349, 32), (9922, 256), (18357, 256), (10**6, 256)]
)
def test_codebook_size_fits_the_catalogue(items, size):
    assert fitting_codebook_size(items) == size


@pytest.mark.parametrize("items", [1, 2])
def test_a_catalogue_of_next_to_nothing(tmp_path, items):
    workspace = make_workspace(tmp_path, users=6, items=48)
    write_table(pl.read_parquet(workspace.items).head(items), workspace.items, ITEMS)
    np.save(workspace.embeddings, np.eye(items, 4, dtype=np.float32))
    BUILD.run(workspace, BuildSettings())
    assert ItemIndex.load(workspace.item_index).sizes[0] == items


def bring(workspace, rows):
    path = workspace.path("brought.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def brought_rows(workspace):
    item_ids = pl.read_parquet(workspace.items)["item_id"].to_list()
    return [{"item_id": item, "ids": [f"<a_{row // 7}>", f"<|b_{row % 7}|>", 2]} for row, item in enumerate(item_ids)]


def test_bring_your_own_index(workspace):
    run(workspace)
    rows = [*brought_rows(workspace), {"item_id": "other", "ids": [1, 1, 1]}]
    index = run(workspace, from_file=bring(workspace, rows), codebook_size=None, conflict_slot="none")
    assert index.sizes == (7, 7, 3)
    assert index.text(index.item_ids[9]) == "<|a_1|><|b_2|><|c_2|>"
    assert not workspace.codebooks.exists()  # those of the index before would be a lie


@pytest.mark.parametrize("name", ["shop.index.json", "codes.json", "codes.jsonl"])
def test_codes_as_other_projects_write_them(workspace, name):
    expected = run(workspace, from_file=bring(workspace, brought_rows(workspace)), codebook_size=None)
    rows = brought_rows(workspace)
    by_id = {row["item_id"]: [f"<{'abc'[at]}_{code}>" for at, code in enumerate(expected.codes[place, :3])]
             for place, row in enumerate(rows)}  # fmt: skip
    path = workspace.path(name)
    lines = "\n".join(json.dumps({"item_id": item, "codes": codes}) for item, codes in by_id.items())
    path.write_text(lines if name.endswith("jsonl") else json.dumps(by_id if "index" in name else [
        {"item_id": item, "codes": codes} for item, codes in by_id.items()
    ]))  # fmt: skip
    found = run(workspace, from_file=str(path), codebook_size=None)
    assert (found.codes == expected.codes).all() and found.item_ids == expected.item_ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.pop(3), "lacks 1 of 48 items, the first 'i3'"),
        (lambda rows: rows[3].update(ids=[1, 2]), "line 4: ids has 2 codes, those before have 3"),
        (lambda rows: rows[3].update(ids=[1, 2, "x"]), "line 4: 'x' in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, -1]), "line 4: -1 in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, "-1"]), "line 4: '-1' in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, "1.0"]), r"line 4: '1\.0' in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, 1.5]), r"line 4: 1\.5 in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, "<a_1_7>"]), "line 4: '<a_1_7>' in 'ids' is not a code"),
        (lambda rows: rows[3].update(ids=[1, 2, "1, 7"]), "line 4: '1, 7' in 'ids' is not a code"),
        (lambda rows: rows[3].pop("ids"), "line 4: no list of codes in 'ids'"),
        (
            lambda rows: rows[0].update(more=[1]),
            r"line 1: 2 lists \(ids, more\): name the one to take with --from-field",
        ),
        (lambda rows: rows.append(rows[2]), "line 49: item 'i2' stands in the file twice"),
    ],
)
def test_refuses_a_bad_index(workspace, change, message):
    rows = brought_rows(workspace)
    change(rows)
    with pytest.raises(GreamError, match=message):
        run(workspace, from_file=bring(workspace, rows), codebook_size=None)
    with pytest.raises(GreamError, match="does not exist"):
        run(workspace, from_file="nowhere.jsonl")


def test_report(workspace, capsys):
    run(workspace)
    capsys.readouterr()
    INDEX.run(workspace, IndexReportSettings())
    out = capsys.readouterr().out
    assert "random index" in out
    execute(INDEX, workspace, IndexReportSettings())
    assert capsys.readouterr().out.startswith(out)
    execute(INDEX, workspace, IndexReportSettings())  # up to date: the same table, from the file
    assert capsys.readouterr().out == f"{out}index report: up to date\n"
    report = json.loads(workspace.path("index_report.json").read_text())
    assert [row["levels"] for row in report["shared_levels"]] == [0, 1, 2, 3]
    assert [level["size"] for level in report["levels"]] == [8, 8, 8]
    assert report["levels"][0]["quantisation_error"] > report["levels"][2]["quantisation_error"]
    everyone, first = report["shared_levels"][:2]
    assert everyone["share_category"] == pytest.approx(1 / 8, abs=0.03)
    assert first["share_category"] > 0.6  # level one finds the genres
    assert first["next_item"] > everyone["next_item"]
    chance = report["random"]
    assert chance["levels"][0]["quantisation_error"] > 2 * report["levels"][0]["quantisation_error"]
    assert chance["shared_levels"][1]["share_category"] < 0.4
    page = workspace.path("index_report.html").read_text()
    assert page.count("<svg") >= 5 and "http" not in page.replace("http://www.w3.org/2000/svg", "")
    # The errors of the index that was built are those that fit its codes; a brought one has them all the same.
    built = [level["quantisation_error"] for level in report["levels"]]
    run(workspace, from_file=bring(workspace, brought_rows(workspace)), codebook_size=None, conflict_slot="none")
    INDEX.run(workspace, IndexReportSettings())
    brought = json.loads(workspace.path("index_report.json").read_text())
    assert brought["levels"][2]["quantisation_error"] > built[2]


def test_code_quality_by_hand():
    codes = np.array([[0, 0], [0, 0], [0, 1], [2, 0]])
    found = code_quality(codes, [4, 2], [2.5, 1.5])
    assert found["raw_collision_rate"] == 1 / 4
    assert (found["colliding_items"], found["largest_group"]) == (2, 2)
    first = found["levels"][0]
    assert first["utilisation"] == 2 / 4
    assert first["perplexity"] == pytest.approx(4 / 27**0.25)  # exp(H) of (3/4, 1/4)
    assert [level["quantisation_error"] for level in found["levels"]] == [2.5, 1.5]


def test_quantisation_errors_by_hand():
    vectors = np.array([[0.0], [2.0], [10.0], [14.0]], np.float32)
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    # Level one leaves -1, 1, -2, 2; level two takes -1.5 and 1.5 off.
    assert quantisation_errors(vectors, codes) == [2.5, 0.25]
    assert random_codes(5, (3, 2), 1).shape == (5, 2)
    assert (random_codes(1000, (3, 2)).max(axis=0) == [2, 1]).all()


@pytest.mark.parametrize("slot", ["colliding", "none"])
def test_last_level_reassignment(workspace, slot, capsys):
    index = run(workspace, conflict_slot=slot, reassign=True)
    assert index.identifiers[5] != index.identifiers[13]
    assert (index.codes[:, :3] >= 0).all() and len(np.unique(index.codes[:, :3], axis=0)) == 48
    assert "no two have equal codes now" in capsys.readouterr().out
    found = json.loads(workspace.path("index_quality.json").read_text())
    assert found["reassigned"]["moved"] > 0 and found["raw_collision_rate"] > 0


def test_last_level_without_room(workspace, capsys):
    small = {"levels": 2, "codebook_size": 4, "reassign": True}
    with pytest.raises(
        GreamError, match=r"it has no room below \d+ prefixes, the first <\|a_\d\|> with \d+ items: set"
    ):
        run(workspace, conflict_slot="none", **small)
    index = run(workspace, conflict_slot="colliding", **small)
    assert "it has no room below" in capsys.readouterr().out
    assert len(set(index.identifiers)) == 48


def test_balance(workspace):
    index = run(workspace, balance=1.0)
    assert np.bincount(index.codes[:, 0]).tolist() == [6] * 8


def test_shared_levels_by_hand():
    codes = np.array([[0, 0], [0, 0], [0, 1], [2, 0]])
    categories = [{"a"}, {"a", "b"}, {"b"}, set()]
    neighbours = np.array([[0, 1], [1, 0], [1, 2], [3, 0], [2, 2]])  # three different pairs of two items
    everyone, one, two = shared_levels(codes, categories, neighbours)
    assert [row["pairs"] for row in (everyone, one, two)] == [6, 3, 1]
    assert [row["next_item"] for row in (everyone, one, two)] == [3 / 6, 2 / 3, 1]
    assert everyone["share_category"] == pytest.approx(2 / 3, abs=0.01)  # item 3 has no category and does not count
    assert one["share_category"] == pytest.approx(2 / 3, abs=0.01)
    assert two["share_category"] == 1


def test_shared_levels_without_pairs():
    codes = np.array([[0], [1]])
    everyone, one = shared_levels(codes, [set(), set()], np.empty((0, 2), dtype=np.int64))
    assert everyone == {"levels": 0, "pairs": 1, "share_category": None, "next_item": 0}
    assert one == {"levels": 1, "pairs": 0, "share_category": None, "next_item": None}
