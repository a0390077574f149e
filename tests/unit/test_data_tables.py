"""Tables as people have them: each way of writing the same interactions and items gives the same workspace."""

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gream_ext.data.records import item_record
from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace

START = 1405900800  # 2014-07-21
ROWS = [(user, item, START + 3600 * hour) for user in "uvw" for hour, item in enumerate(("11", "12", "13", "14"))]
ITEMS: list[dict[str, Any]] = [
    {"item_id": one, "title": f"Film {one}", "categories": ["Drama", "Noir"], "year": 1991}
    for one in ("11", "12", "13", "14")
]


def prepare(folder: Path, **settings: Any) -> Workspace:
    workspace = Workspace(folder.parent / f"{folder.name} run")
    STAGE.run(workspace, PrepareSettings(path=str(folder), **{"k": 0, **settings}))
    return workspace


def table(folder: Path, interactions: str, name: str = "interactions.csv", **others: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(interactions, encoding="utf-8")
    for other, text in others.items():
        (folder / other.replace("_", ".")).write_text(text, encoding="utf-8")
    return folder


def csv(rows: list[tuple[Any, ...]], separator: str = ",", head: str = "user_id,item_id,timestamp") -> str:
    lines = [head.split(","), *rows]
    return "".join(separator.join(map(str, line)) + "\n" for line in lines)


@pytest.fixture
def expected(tmp_path: Path) -> Workspace:
    lines = "\n".join(map(json.dumps, ITEMS))
    return prepare(table(tmp_path / "plain", csv(ROWS), items_jsonl=lines))


def test_timestamps_in_every_usual_spelling(tmp_path: Path, expected: Workspace) -> None:
    times = [datetime.datetime.fromtimestamp(time, datetime.UTC) for _, _, time in ROWS]
    spelled = {
        "iso": [one.isoformat() for one in times],
        "z": [one.strftime("%Y-%m-%dT%H:%M:%SZ") for one in times],
        "blank": [one.strftime("%Y-%m-%d %H:%M") for one in times],
        "slashes": [one.strftime("%Y/%m/%d %H:%M:%S.000") for one in times],
        "zone": [one.astimezone(datetime.timezone(datetime.timedelta(hours=9))).isoformat() for one in times],
        "float": [f"{time}.0" for _, _, time in ROWS],
        "scientific": [f"{time:.9e}" for _, _, time in ROWS],
        "mixed": [f"{time}" if number % 2 else times[number].isoformat() for number, (_, _, time) in enumerate(ROWS)],
    }
    for name, column in spelled.items():
        rows = [(user, item, time) for (user, item, _), time in zip(ROWS, column, strict=True)]
        found = pl.read_parquet(prepare(table(tmp_path / name, csv(rows))).interactions)
        assert found.equals(pl.read_parquet(expected.interactions)), name
        as_json = [dict(zip(("user_id", "item_id", "timestamp"), row, strict=True)) for row in rows]
        lines = "\n".join(map(json.dumps, as_json))
        found = pl.read_parquet(prepare(table(tmp_path / f"{name} json", lines, "interactions.jsonl")).interactions)
        assert found.equals(pl.read_parquet(expected.interactions)), name


def test_a_day_orders_and_a_fraction_of_a_second_too(tmp_path: Path) -> None:
    rows = [("u", "c", "2014-07-22"), ("u", "b", "2014-07-21T10:00:00.7"), ("u", "a", "2014-07-21T10:00:00.25")]
    assert pl.read_parquet(prepare(table(tmp_path / "in", csv(rows))).interactions)["item_id"].to_list() == [
        "a",
        "b",
        "c",
    ]


@pytest.mark.parametrize("folder", [False, True])
def test_parquet_of_every_type(tmp_path: Path, expected: Workspace, folder: bool) -> None:
    frame = pl.DataFrame(ROWS, schema=["user_id", "item_id", "timestamp"], orient="row")
    moment = pl.from_epoch("timestamp")
    kinds = {
        "datetime": moment,
        "utc": moment.dt.replace_time_zone("UTC"),
        "milliseconds": moment.cast(pl.Datetime("ms")),
        "float": pl.col("timestamp").cast(pl.Float64),
        "text": pl.col("timestamp").cast(pl.String),
    }
    for name, time in kinds.items():
        made = frame.with_columns(time, pl.col("user_id").cast(pl.Categorical), pl.col("item_id").cast(pl.Float64))
        place = tmp_path / name
        if folder:  # as Spark and Hive write it
            for number, user in enumerate("uvw"):
                part = place / "interactions.parquet" / f"day={number}"
                part.mkdir(parents=True)
                made.filter(pl.col("user_id").cast(pl.String) == user).write_parquet(part / "part-0.parquet")
            (place / "interactions.parquet" / "_SUCCESS").touch()
        else:
            place.mkdir()
            made.write_parquet(place / "interactions.parquet")
        pl.DataFrame(ITEMS).with_columns(pl.col("year").cast(pl.Float64)).write_parquet(place / "items.parquet")
        workspace = prepare(place)
        assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions)), name
        assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items)), name


@pytest.mark.parametrize(
    ("name", "separator"), [("interactions.tsv", "\t"), ("interactions.csv", ";"), ("interactions.csv", "\t")]
)
def test_the_separator_is_told_from_the_header(tmp_path: Path, expected: Workspace, name: str, separator: str) -> None:
    items = csv(
        [(one["item_id"], one["title"], "['Drama', 'Noir']", 1991) for one in ITEMS],
        ";",
        "item_id,title,categories,year",
    )
    workspace = prepare(table(tmp_path / "in", csv(ROWS, separator), name, items_csv=items))
    assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))


@pytest.mark.parametrize("spelling", ["list", "by id", "by columns", "lines"])
def test_items_json(tmp_path: Path, expected: Workspace, spelling: str) -> None:
    by_id = {one["item_id"]: {name: one[name] for name in one if name != "item_id"} for one in ITEMS}
    columns = {name: {str(row): one[name] for row, one in enumerate(ITEMS)} for name in ITEMS[0]}
    text = {
        "list": json.dumps(ITEMS, indent=1),
        "by id": json.dumps(by_id),
        "by columns": json.dumps(columns),
        "lines": "\n".join(map(json.dumps, ITEMS)),
    }[spelling]
    workspace = prepare(table(tmp_path / "in", csv(ROWS), items_json=text))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))


def test_recbole_files(tmp_path: Path, expected: Workspace) -> None:
    head = "user_id:token,item_id:token,rating:float,timestamp:float"
    rows = [(user, item, 5, f"{time}.0") for user, item, time in ROWS]
    about = csv(
        [(one["item_id"], one["title"], "1991", "Drama Noir") for one in ITEMS],
        "\t",
        "item_id:token,movie_title:token_seq,year:token,class:token_seq",
    )
    folder = table(tmp_path / "in", csv(rows, "\t", head), "shop.inter")
    (folder / "shop.item").write_text(about)
    workspace = prepare(folder)
    assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))
    (folder / "shop.valid.inter").touch()
    with pytest.raises(GreamError, match=r"has both shop.inter and shop.valid.inter"):
        prepare(folder)


@pytest.mark.parametrize(
    ("spelled", "categories"),
    [
        (["A", "B"], ["A", "B"]),
        ("['A', 'B']", ["A", "B"]),
        ('["A", "B"]', ["A", "B"]),
        ("[['A', 'B'], ['C']]", ["A > B", "C"]),
        ("['A' 'B']", ["A", "B"]),
        ('["It\'s", null]', ["It's"]),
        ("Home, Garden", ["Home, Garden"]),
        ("[Remastered]", ["[Remastered]"]),
        ("[]", []),
        (["A", None, float("nan")], ["A"]),
    ],
)
def test_lists_of_categories(spelled: object, categories: list[str]) -> None:
    assert item_record({"item_id": "1", "categories": spelled}, "line 1")["categories"] == categories


@pytest.mark.parametrize("gap", [None, float("nan"), "nan", "NaN", "<NA>", "NaT", ""])
def test_a_gap_is_missing_in_every_field(gap: object) -> None:
    fields = {
        "item_id": "1",
        "title": gap,
        "brand": gap,
        "categories": gap,
        "description": gap,
        "year": gap,
        "tags": [gap],
    }
    record = item_record(fields, "line 1")
    assert [record[name] for name in ("title", "brand", "description")] == [None] * 3  # type: ignore[literal-required]
    assert record["categories"] == record["attributes"] == []
    with pytest.raises(GreamError, match="item_id is empty"):
        item_record({"item_id": gap}, "line 1")


def test_gaps_of_pandas_in_files(tmp_path: Path) -> None:
    rows = [*ROWS, ("x", "11", "NaN")]
    with pytest.raises(GreamError, match="line 14: timestamp is empty"):
        prepare(table(tmp_path / "bad", csv(rows)))
    items = 'item_id,title,year\n11,nan,1991.0\n12,"",NaN\n13,NaN,\n14,Heat,1995.0\n'
    reviews = '{"user_id": "u", "item_id": "11", "text": NaN, "rating": NaN, "helpful": NaN}\n'
    workspace = prepare(table(tmp_path / "in", csv(ROWS), items_csv=items, reviews_jsonl=reviews))
    found = pl.read_parquet(workspace.items)
    assert found["title"].to_list() == ["11", "12", "13", "Heat"]
    assert found["attributes"].to_list()[0] == ["year: 1991.0"], "what a text table says is taken as it stands"
    lines = '{"item_id": 11.0, "title": "Heat", "year": 1991.0, "sizes": [1.0, NaN], "maker": [{"name": "V"}]}\n'
    found = pl.read_parquet(prepare(table(tmp_path / "json", csv(ROWS), items_jsonl=lines)).items)
    assert found["attributes"].to_list()[0] == ["year: 1991", "sizes: 1", "name: V"]


def test_ids_that_look_alike_but_do_not_join(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, change in {
        "float": lambda one: f"{one}.0",
        "zeros": lambda one: f"000{one}",
        "blank": lambda one: f" {one}",
    }.items():
        items = "\n".join(json.dumps({**one, "item_id": change(one["item_id"])}) for one in ITEMS)
        with pytest.raises(
            GreamError, match="4 of 4 items are not among the described ones by that id, but look alike"
        ):
            prepare(table(tmp_path / name, csv(ROWS), items_jsonl=items))
    one = json.dumps({"item_id": "011", "title": "another"})
    prepare(table(tmp_path / "one", csv(ROWS), items_jsonl=one))
    reviews = '{"user_id": "u.0", "item_id": "11", "text": "a b c"}\n'
    prepare(table(tmp_path / "reviews", csv(ROWS), reviews_jsonl=reviews))
    assert "none of 1 reviews is of a user and item of the histories" in caplog.text


def test_exact_duplicates_are_left_out_and_counted(
    tmp_path: Path, expected: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    items = "\n".join(json.dumps(one) for one in [*ITEMS, ITEMS[0]])
    workspace = prepare(table(tmp_path / "in", csv([*ROWS, ROWS[5], ROWS[0], ROWS[0]]), items_jsonl=items))
    assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))
    assert "3 rows repeat an earlier one" in caplog.text


def test_bought_again_at_another_time_is_no_duplicate(tmp_path: Path) -> None:
    again = [*ROWS, ("u", "11", START + 99 * 3600)]
    found = pl.read_parquet(prepare(table(tmp_path / "in", csv(again))).interactions)
    assert found.filter(user_id="u")["item_id"].to_list() == ["11", "12", "13", "14", "11"]
    for keep, items in (("first", ["11", "12", "13", "14"]), ("last", ["12", "13", "14", "11"])):
        found = pl.read_parquet(prepare(tmp_path / "in", repeats=keep).interactions)
        assert found.filter(user_id="u")["item_id"].to_list() == items


def test_times_that_cannot_be_right_are_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mixed = [(user, item, time * (1000 if user == "w" else 1)) for user, item, time in ROWS]
    prepare(table(tmp_path / "mixed", csv(mixed)))
    assert "4 of 12 timestamps are milliseconds" in caplog.text
    prepare(table(tmp_path / "equal", csv([(user, item, 7) for user, item, _ in ROWS])))
    assert "all timestamps are 7" in caplog.text
    caplog.clear()
    prepare(table(tmp_path / "all", csv([(user, item, time * 1000) for user, item, time in ROWS])))
    assert "timestamps" not in caplog.text


def test_short_users_train_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [*ROWS, ("short", "11", START), ("short", "12", START + 1), ("one", "11", START)]
    for settings in ({"k": 0}, {"k": 2, "user_minimum": 1}):
        workspace = prepare(table(tmp_path / "in", csv(rows)), **settings)
        found = pl.read_parquet(workspace.interactions)
        assert found.filter(pl.col("user_id").is_in(["short", "one"]))["split"].to_list() == ["train"] * 3
        assert sorted(found.filter(split="test")["user_id"]) == ["u", "v", "w"]
    assert "2 of 5 users have fewer than 3 interactions and go into training only" in caplog.text
    found = pl.read_parquet(prepare(table(tmp_path / "in", csv(rows)), k=2, user_minimum=4).interactions)
    assert sorted(found["user_id"].unique()) == ["u", "v", "w"]
    found = pl.read_parquet(prepare(table(tmp_path / "in", csv(rows)), k=2).interactions)
    assert sorted(found["user_id"].unique()) == ["short", "u", "v", "w"]
