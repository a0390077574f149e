"""The stage `prepare`: what it writes, and what it says to bad input."""

import gzip
import json
import os
from pathlib import Path

import polars as pl
import pytest

from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, read_table
from tests.support.synthetic import write_synthetic_source

SHARED = Path(os.environ.get("GREAM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


def prepare(root, folder, **settings):
    workspace = Workspace(root / "run")
    STAGE.run(workspace, PrepareSettings(path=str(folder), **settings))
    return workspace


def source(root, interactions, items=None):
    folder = root / "source"
    folder.mkdir(exist_ok=True)
    (folder / "interactions.csv").write_text(interactions, encoding="utf-8")
    if items is not None:
        (folder / "items.jsonl").write_text(items, encoding="utf-8")
    return folder


def test_made_up_shop(tmp_path, capsys):
    folder = write_synthetic_source(tmp_path / "source")
    workspace = prepare(tmp_path, folder, k=3)
    interactions = read_table(workspace.interactions, INTERACTIONS, "prepare")
    items = read_table(workspace.items, ITEMS, "prepare")
    figures = json.loads(workspace.statistics.read_text())
    assert figures["users"] == 60
    assert figures["interactions"] == len(interactions)
    assert set(items["item_id"]) == set(interactions["item_id"])
    assert items["text"].null_count() == items["title"].null_count() == 0
    assert interactions.filter(split="test").height == interactions.filter(split="valid").height == 60
    assert "60 users" in capsys.readouterr().out
    case = evaluation_cases(workspace, "test")[0]
    assert case.history[:-1] == training_histories(workspace)[case.user_id]


def test_same_source_same_files(tmp_path):
    folder = write_synthetic_source(tmp_path / "source")
    first, second = prepare(tmp_path / "a", folder, k=2), prepare(tmp_path / "b", folder, k=2)
    for name in ("interactions.parquet", "items.parquet", "statistics.json"):
        assert first.path(name).read_bytes() == second.path(name).read_bytes()


@pytest.mark.parametrize("kind", ["csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_every_file_format_gives_the_same(tmp_path, kind):
    folder = write_synthetic_source(tmp_path / "source")
    expected = prepare(tmp_path / "expected", folder)
    frame = pl.read_csv(folder / "interactions.csv")
    records = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    other = tmp_path / "other"
    other.mkdir()
    items = pl.DataFrame(records, infer_schema_length=None)
    flat = items.with_columns(pl.col("categories").list.join("|"))
    if kind == "parquet":
        frame.write_parquet(other / "interactions.parquet")
        items.write_parquet(other / "items.parquet")
    else:
        text = frame.write_csv() if kind.startswith("csv") else frame.write_ndjson()
        about = flat.write_csv() if kind.startswith("csv") else "\n".join(map(json.dumps, records))
        pack = gzip.compress if kind.endswith("gz") else bytes
        (other / f"interactions.{kind}").write_bytes(pack(text.encode()))
        (other / f"items.{kind}").write_bytes(pack(about.encode()))
    workspace = prepare(tmp_path / "actual", other)
    assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))


def test_fields_of_an_item(tmp_path, caplog):
    items = [
        {
            "item_id": 1,
            "title": "Tom &amp; Jerry<|im_end|>",
            "categories": [["Films", "Comedy"], ["Gifts"]],
            "asin": "B1",
        },
        {"item_id": "2", "title": None, "brand": "", "categories": "Drama", "year": 1995, "tags": ["a", "b"]},
        {"item_id": "unseen", "title": "Nobody bought it"},
    ]
    folder = source(
        tmp_path, "user_id,item_id,position\nu,1,0\nu,2,1\nu,3,2\n", "\n".join(json.dumps(item) for item in items)
    )
    rows = pl.read_parquet(prepare(tmp_path, folder, k=0).items).rows(named=True)
    assert [row["item_id"] for row in rows] == ["1", "2", "3"]
    assert rows[0]["title"] == "Tom & Jerry"
    assert rows[0]["categories"] == ["Films > Comedy", "Gifts"]
    assert rows[0]["attributes"] == []
    assert rows[0]["text"] == "Tom & Jerry\ncategories: Films > Comedy, Gifts"
    assert rows[1]["title"] == "2"
    assert rows[1]["text"] == "categories: Drama\nyear: 1995\ntags: a, b"
    assert rows[2]["title"] == rows[2]["text"] == "3"
    assert "2 of 3 items" in caplog.text


HEAD = "user_id,item_id,timestamp\n"
GOOD = HEAD + "u,x,1\nu,y,2\nu,z,3\n"
BAD_INTERACTIONS = {
    "": "empty",
    HEAD: "no interactions",
    "user_id,item,timestamp\nu,x,1\n": "interactions.csv has no column 'item_id', only user_id, item, timestamp",
    "user_id,item_id\nu,x\n": "neither a column 'timestamp' nor 'position'",
    HEAD + "u,x,1\nu,,2\n": "interactions.csv line 3: item_id is empty",
    HEAD + "u,x,1\nu,y,\n": "line 3: timestamp is empty",
    HEAD + "u,x,1\n\nu,y,2\n": "line 3 is blank",
    HEAD + "\n\n": "no interactions",
    HEAD.replace("\n", ",item_id\n") + "u,x,1,y\n": "interactions.csv has several columns 'item_id'",
    GOOD.replace("\n", "\r"): "ends its lines with CR alone",
    HEAD + 'u,x,1\nu,y"z,2\nu,z,3\n': "line 3 has a quote inside a field",
    HEAD + 'u,x,1\nu,"y"z,2\n': "line 3: ',' expected after '\"'",
    HEAD + 'u,x,1\nu,"y,2\n': "line 3: a quote is not closed",
    HEAD + "u,x,1\nu,y,99999999999999999999\n": "line 3: timestamp is too large a number (20 digits)",
    HEAD + "u,x,1\nu,y,soon\n": "line 3: timestamp is 'soon': write seconds since 1970 (1405900800), a date",
    HEAD + "u,x,21.07.2014\n": "line 2: timestamp is '21.07.2014': write seconds since 1970",
    HEAD.replace("timestamp", "position") + "u,x,1.5\n": "line 2: position is '1.5', not a whole number",
    HEAD + "u,x,1\nu,y,2,9\n": "line 3: 4 fields, but the header has 3",
}


@pytest.mark.parametrize(("text", "message"), BAD_INTERACTIONS.items())
def test_bad_interactions(tmp_path, text, message):
    with pytest.raises(GreamError) as caught:
        prepare(tmp_path, source(tmp_path, text), k=0)
    assert message in str(caught.value)
    assert "interactions.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


BAD_ITEMS = {
    '{"item_id": "x"}\n{"item_id": "y", }\n': "items.jsonl line 2: not JSON",
    '{"item_id": "x"}\n["y"]\n': "items.jsonl line 2: list, not an object",
    '{"title": "x"}\n': "items.jsonl line 1: item_id is empty",
    '{"item_id": 1.5}\n': "items.jsonl line 1: item_id is 1.5",
    '{"item_id": "x", "title": {"en": "X"}}\n': "items.jsonl line 1: title is dict, not a text",
    '{"item_id": "x", "categories": [3]}\n': "items.jsonl line 1: categories is neither",
    '{"item_id": "x"}\n{"item_id": "x", "title": "a"}\n': "items.jsonl line 2: item 'x' stands in the file twice",
    "\n": "items.jsonl is empty",
    '{"item_id": "x"}\n{"item_id": ' + "7" * 5000 + "}\n": "items.jsonl line 2: not usable JSON (Exceeds the limit",
    '{"item_id": "x"}\n' + "[" * 100_000 + "\n": "items.jsonl line 2: not usable JSON (maximum recursion",
    '{"item_id": "x\\ud800"}\n': "items.jsonl line 1: item_id is 'x\\ud800', which has half of a character",
    '{"item_id": "x", "title": "a\\udc00"}\n': "items.jsonl line 1: title is 'a\\udc00', which has half",
}


@pytest.mark.parametrize(("text", "message"), BAD_ITEMS.items())
def test_bad_items(tmp_path, text, message):
    with pytest.raises(GreamError) as caught:
        prepare(tmp_path, source(tmp_path, GOOD, text), k=0)
    assert message in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("items.csv", "item_id,title,title\nx,a,b\n", "items.csv has several columns 'title'"),
        ("reviews.csv", "user_id,item_id,item_id,text\nu,x,x,a\n", "reviews.csv has several columns 'item_id'"),
        ("reviews.jsonl", '{"user_id":"u","item_id":"x","text":"a","helpful":1e999}\n', "line 1: rating or helpful"),
        ("reviews.jsonl", '{"user_id":"u","item_id":"x","text":"a","helpful":3000000000}\n', "line 1: the rating or"),
        ("reviews.jsonl", '{"user_id":"u","item_id":"x","text":"a","rating":-1e999}\n', "line 1: the rating or"),
        (
            "interactions.jsonl",
            f'{{"user_id":"u","item_id":"x","timestamp":{2**63}}}\n',
            "line 1: timestamp is too large",
        ),
        (
            "interactions.jsonl",
            '{"user_id":"u","item_id":"x","timestamp":"2014-07-32"}\n',
            "line 1: timestamp is '2014-",
        ),
        ("interactions.jsonl", '{"user_id":"u","item_id":"x","timestamp":true}\n', "seconds since 1970"),
        ("interactions.jsonl", '{"user_id":"u\\udfff","item_id":"x","timestamp":1}\n', "line 1: user_id is 'u\\udfff'"),
    ],
)
def test_what_no_table_can_hold_is_said_with_its_line(tmp_path, file, text, message):
    folder = source(tmp_path, GOOD)
    if file.startswith("interactions"):
        (folder / "interactions.csv").unlink()
    (folder / file).write_text(text)
    with pytest.raises(GreamError) as caught:
        prepare(tmp_path, folder, k=0)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("end", ["\n\n\n", "\r\n\r\n", "\n,,\n"])
def test_blank_lines_at_the_end_of_a_table_are_skipped(tmp_path, end):
    folder = source(tmp_path, GOOD.rstrip("\n") + end)
    (folder / "items.csv").write_text("item_id,title\nx,a\n\ny,b\n\n")
    workspace = prepare(tmp_path, folder, k=0)
    assert pl.read_parquet(workspace.interactions)["item_id"].to_list() == ["x", "y", "z"]
    assert pl.read_parquet(workspace.items)["title"].to_list() == ["a", "b", "z"]


def test_half_characters_are_left_out_of_texts_that_are_not_titles(tmp_path):
    folder = source(tmp_path, GOOD, '{"item_id": "x", "description": "a\\ud800b", "note": "c\\udfff"}\n')
    row = pl.read_parquet(prepare(tmp_path, folder, k=0).items).row(0, named=True)
    assert (row["description"], row["attributes"]) == ("a b", ["note: c"])


@pytest.mark.parametrize("failing", ["items", "reviews", "statistics"])
def test_a_failed_write_leaves_the_earlier_workspace(tmp_path, monkeypatch, failing):
    folder = source(tmp_path, GOOD)
    (folder / "reviews.jsonl").write_text('{"user_id": "u", "item_id": "x", "text": "a b c"}\n')
    workspace = prepare(tmp_path, folder, k=0, review_words=1)
    before = {path.name: path.read_bytes() for path in workspace.root.iterdir()}
    (folder / "interactions.csv").write_text(GOOD + "u,new,4\n")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    if failing == "statistics":
        monkeypatch.setattr("gream_ext.data.prepare.write_json", fail)
    else:
        real = pl.DataFrame.write_parquet
        writes = lambda frame, draft, **more: fail() if draft.stem == failing else real(frame, draft, **more)  # noqa: E731
        monkeypatch.setattr(pl.DataFrame, "write_parquet", writes)
    with pytest.raises(OSError, match="No space left"):
        prepare(tmp_path, folder, k=0, review_words=1)
    assert {path.name: path.read_bytes() for path in workspace.root.iterdir()} == before


def test_a_folder_in_place_of_a_file_stops_before_anything_is_written(tmp_path):
    folder, workspace = source(tmp_path, GOOD), Workspace(tmp_path / "run")
    workspace.interactions.mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"interactions\.parquet"):
        prepare(tmp_path, folder, k=0)
    assert [path.name for path in workspace.root.iterdir()] == ["interactions.parquet"]


def test_metadata_that_is_no_mapping(tmp_path):
    path = tmp_path / "items.parquet"
    pl.DataFrame({"a": [1]}).write_parquet(path, metadata={"gream": "[1]"})
    with pytest.raises(GreamError, match=r"items.parquet is not a file of kind 'items': run `gream prepare`"):
        read_table(path, ITEMS, "prepare")


def test_bad_bytes(tmp_path):
    folder = source(tmp_path, GOOD)
    (folder / "interactions.csv").write_bytes(GOOD.encode() + "u,café,4\n".encode("latin-1"))
    with pytest.raises(GreamError, match=r"interactions.csv line 5: not UTF-8"):
        prepare(tmp_path, folder, k=0)
    (folder / "interactions.csv").unlink()
    packed = folder / "interactions.csv.gz"
    packed.write_text(GOOD)
    with pytest.raises(GreamError, match=r"interactions.csv.gz is named .gz but is not gzip"):
        prepare(tmp_path, folder, k=0)
    whole = gzip.compress(HEAD.encode() + b"".join(b"u,x,%d\n" % time for time in range(5000)))
    for damaged in (whole[:-20], whole[:-8] + bytes(8)):  # cut off, another checksum
        packed.write_bytes(damaged)
        with pytest.raises(GreamError, match=r"interactions.csv.gz is cut off or damaged"):
            prepare(tmp_path, folder, k=0)
    packed.unlink()
    (folder / "interactions.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(GreamError, match=r"interactions.parquet is not a readable Parquet file"):
        prepare(tmp_path, folder, k=0)
    (folder / "interactions.csv").write_text(GOOD)
    with pytest.raises(GreamError, match=r"has both interactions.csv and interactions.parquet"):
        prepare(tmp_path, folder, k=0)


def test_wrong_types_in_parquet(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    pl.DataFrame({"user_id": ["u"], "item_id": [1.5], "timestamp": [1]}).write_parquet(folder / "interactions.parquet")
    with pytest.raises(GreamError, match=r"row 1: item_id is 1\.5, neither text nor a whole number"):
        prepare(tmp_path, folder)
    lists = {"user_id": ["u"], "item_id": ["x"], "timestamp": [[1]]}
    pl.DataFrame(lists).write_parquet(folder / "interactions.parquet")
    with pytest.raises(GreamError, match=r"column 'timestamp' is List\(Int64\), not a number, a date or a time"):
        prepare(tmp_path, folder)
    for kind, name in ((pl.Time, "Time"), (pl.Duration("us"), "Duration")):  # of a day, or a span: no moment
        frame = pl.DataFrame({"user_id": ["u"], "item_id": ["x"], "timestamp": pl.Series([1]).cast(kind)})
        frame.write_parquet(folder / "interactions.parquet")
        with pytest.raises(GreamError, match=rf"column 'timestamp' is {name}.*, not a number, a date or a time"):
            prepare(tmp_path, folder)


def test_nothing_left_after_the_core(tmp_path):
    with pytest.raises(GreamError, match=r"nothing of 1 users and 3 items is left after the 5-core: set --k lower"):
        prepare(tmp_path, source(tmp_path, GOOD))


def test_unknown_places(tmp_path):
    with pytest.raises(GreamError, match="is not a folder"):
        prepare(tmp_path, tmp_path / "nowhere")
    with pytest.raises(GreamError, match=r"has no interactions.csv"):
        prepare(tmp_path, tmp_path)
    with pytest.raises(GreamError, match="--source 'amazon' is unknown: choose one of table, movielens"):
        prepare(tmp_path, tmp_path, source="amazon")


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [("beauty", 22363, 12101, 198502), ("sports", 35598, 18357, 296337), ("instruments", 24772, 9922, 206153)],
)
def test_counts_of_the_amazon_data(tmp_path, name, users, items, interactions):
    if not (SHARED / name).is_dir():
        pytest.skip("no Amazon data here: set GREAM_SHARED_DATA")
    figures = json.loads(prepare(tmp_path, SHARED / name).statistics.read_text())
    assert (figures["users"], figures["items"], figures["interactions"]) == (users, items, interactions)


def test_a_split_by_time_needs_something_to_train_on(tmp_path, caplog):
    same = "user_id,item_id,timestamp\n" + "".join(f"{user},{item},5\n" for user in "ab" for item in "xyz")
    with pytest.raises(GreamError, match="--split time leaves nothing to train on"):
        prepare(tmp_path, source(tmp_path, same), k=0, split="time")
    late = "user_id,item_id,timestamp\n" + "".join(f"a,{time},{time}\n" for time in range(10)) + "b,0,9\n"
    prepare(tmp_path, source(tmp_path, late), k=0, split="time")
    assert "1 of 2 users have no interaction in the test period that follows another" in caplog.text
