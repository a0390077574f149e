"""Amazon Reviews 2014, 2018 and 2023, in files made up for these tests."""

import gzip
import json
import re
import tracemalloc
from pathlib import Path

import polars as pl
import pytest

from gream_ext.data.amazon import AMAZON_2014
from gream_ext.data.amazon_items import ITEMS, plain
from gream_ext.data.records import item_record
from gream_ext.data.sources import net_votes
from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace
from tests.support.amazon import FILES, LONG, REVIEWS, Written, write_amazon

YEARS = (2014, 2018, 2023)


def prepare(root: Path, path: Path, year: int, **settings: object) -> Workspace:
    workspace = Workspace(root / "run")
    chosen = {"k": 0, **settings}
    STAGE.run(workspace, PrepareSettings(path=str(path), source=f"amazon-{year}", **chosen))  # type: ignore[arg-type]
    return workspace


def rewrite(path: Path, lines: list[str]) -> None:
    path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


@pytest.mark.parametrize(
    ("details", "attributes"),
    [
        ({"Scent": "<b>Rose</b>", "Item Weight": "2 g", "Best Sellers Rank": {"Beauty": 9}}, ["Scent: Rose"]),
        ('{"Scent": "Rose", "Sizes": [1, 2.0], "Vegan": true}', ["Scent: Rose", "Sizes: 1 2", "Vegan: True"]),
        ({"Skin": {"Type": "dry", "Review": "5 stars"}}, ["Type: dry"]),
        (None, []),
        (float("nan"), []),
        ("", []),
    ],
)
def test_details_are_an_object_or_its_json(details: object, attributes: list[str]) -> None:
    record = item_record(ITEMS[2023]({"parent_asin": "B1", "details": details}), "line 1")
    assert record["attributes"] == attributes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"details": "Rose"}, "line 1: details are 'Rose', which is not JSON"),
        ({"details": ["Rose"]}, "line 1: details are list, not an object"),
        ({"description": {"en": "soft"}}, "line 1: dict where a text should be"),
        ({"features": [["soft"]]}, "line 1: list where a text should be"),
        ({"categories": {"Beauty": 1}}, "line 1: categories are dict, not a list"),
        ({"categories": ["Beauty", 3]}, "line 1: categories have int in them"),
    ],
)
def test_what_an_item_should_not_hold_is_said_with_its_line(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    folder = write_amazon(tmp_path / "in", 2023)
    meta = next(folder.glob("meta_*"))
    rewrite(meta, [json.dumps({"parent_asin": "B001", "title": "x", **fields})])
    with pytest.raises(GreamError, match=re.escape(message)):
        prepare(tmp_path, folder, 2023)


# U1: B001, B003, then B002 (valid) and B004 (test); U2: B001, then B004 (valid) and B003 (test).
@pytest.mark.parametrize("year", YEARS)
def test_interactions_in_order(tmp_path: Path, year: int) -> None:
    workspace = prepare(tmp_path, write_amazon(tmp_path / "in", year), year)
    frame = pl.read_parquet(workspace.interactions)
    assert frame.select("user_id", "item_id", "timestamp", "split").rows() == [
        ("U1", "B001", 100, "train"),
        ("U1", "B003", 200, "train"),
        ("U1", "B002", 300, "valid"),
        ("U1", "B004", 400, "test"),
        ("U2", "B001", 100, "train"),
        ("U2", "B004", 250, "valid"),
        ("U2", "B003", 300, "test"),
    ]
    figures = json.loads(workspace.statistics.read_text())
    assert (figures["users"], figures["items"], figures["interactions"]) == (2, 4, 7)
    assert (figures["reviews"], figures["items_with_reviews"]) == (2, 1)


HEADS = {
    2014: ["Velta's Scarf\nbrand: Velta\ncategories: Toys > Winter, Gifts\nA scarf of wool.", 'The "Box"', "Toys"],
    2018: ["Velta's Scarf\nbrand: Velta\ncategories: Toys > Winter\nfeatures: Soft Warm\nA scarf of wool.", "B002", ""],
    2023: [
        "Velta's Scarf\nbrand: Velta\ncategories: Toys > Winter\nColor: Red\nfeatures: Soft Warm\nA scarf of wool.",
        "B002",
        "",
    ],
}


@pytest.mark.parametrize("year", YEARS)
def test_items_with_what_the_seller_says(tmp_path: Path, year: int) -> None:
    workspace = prepare(tmp_path, write_amazon(tmp_path / "in", year), year)
    rows = {row["item_id"]: row for row in pl.read_parquet(workspace.items).rows(named=True)}
    assert sorted(rows) == ["B001", "B002", "B003", "B004"]
    scarf, second, third_category = HEADS[year]
    reviews = [f'review: Warm! {LONG}, says "the" second.', f"review: Fine. {LONG}, says the first."]
    assert rows["B001"]["text"] == "\n".join([scarf, *reviews])
    assert rows["B002"]["title"] == second
    assert rows["B003"]["title"] == "Ormond & Sons"
    assert ", ".join(rows["B003"]["categories"]) == third_category
    assert rows["B004"]["text"] == "B004"


@pytest.mark.parametrize("year", YEARS)
def test_a_file_of_reviews_may_be_named(tmp_path: Path, year: int) -> None:
    folder = write_amazon(tmp_path / "in", year)
    whole = prepare(tmp_path / "a", folder, year)
    write_amazon(tmp_path / "other", year)
    (folder / "Games_5.json.gz").write_bytes(b"")
    with pytest.raises(GreamError, match=r"must have one file of reviews .* and has .*give --path the file"):
        prepare(tmp_path / "b", folder, year)
    named = prepare(tmp_path / "c", folder / FILES[year][0], year)
    for name in ("interactions.parquet", "items.parquet", "reviews.parquet"):
        assert whole.path(name).read_bytes() == named.path(name).read_bytes()
    (folder / FILES[year][1]).unlink()
    with pytest.raises(GreamError, match=r"has no file of items beside it: put meta_Toys\.json\.gz there"):
        prepare(tmp_path / "d", folder / FILES[year][0], year)


def test_repeated_rows_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_amazon(tmp_path / "in", 2018, [*REVIEWS[:2], REVIEWS[1], *REVIEWS[2:], REVIEWS[0]])
    twice = prepare(tmp_path / "a", folder, 2018)
    once = prepare(tmp_path / "b", write_amazon(tmp_path / "once", 2018), 2018)
    assert pl.read_parquet(twice.interactions).equals(pl.read_parquet(once.interactions))
    assert pl.read_parquet(twice.items).equals(pl.read_parquet(once.items))


def test_milliseconds_of_2023_break_ties(tmp_path: Path) -> None:
    folder = write_amazon(tmp_path / "in", 2023)
    lines = gzip.decompress((folder / "Toys.jsonl.gz").read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines if '"U1"' in line]
    for row, milliseconds in zip(rows, (1005, 1001, 1003, 999), strict=True):
        row["timestamp"] = milliseconds
    rewrite(folder / "Toys.jsonl.gz", [json.dumps(row) for row in rows])
    frame = pl.read_parquet(prepare(tmp_path, folder, 2023).interactions)
    assert frame.select("item_id", "timestamp").rows() == [("B004", 0), ("B002", 1), ("B003", 1), ("B001", 1)]


def test_ratings_only_of_2023(tmp_path: Path) -> None:
    folder = write_amazon(tmp_path / "in", 2023)
    (folder / "Toys.jsonl.gz").unlink()
    rows = [f"{one.user},{one.item},{one.stars},{one.time * 1000 + 7}" for one in REVIEWS]
    rewrite(folder / "Toys.csv.gz", ["user_id,parent_asin,rating,timestamp", *rows])
    workspace = prepare(tmp_path, folder, 2023)
    expected = prepare(tmp_path / "b", write_amazon(tmp_path / "other", 2023), 2023, reviews=0)
    assert pl.read_parquet(workspace.interactions).equals(pl.read_parquet(expected.interactions))
    assert pl.read_parquet(workspace.items).equals(pl.read_parquet(expected.items))
    assert not workspace.reviews.exists() and not expected.reviews.exists()


def test_what_is_counted_from_all_users_is_not_read(tmp_path: Path) -> None:
    """Ranks, averages and "also bought" are made of test interactions too."""
    for year in YEARS:
        text = "\n".join(
            pl.read_parquet(prepare(tmp_path / str(year), write_amazon(tmp_path / f"in{year}", year), year).items)[
                "text"
            ]
        )
        assert not any(trace in text for trace in ("211", "4.9", "also", "3.17"))


WRONG = {
    '{"asin": "B001", "unixReviewTime": 5}': r"line 2: no 'reviewerID'",
    '{"reviewerID": "", "asin": "B001", "unixReviewTime": 5}': "line 2: reviewerID is empty",
    '{"reviewerID": "U1", "asin": "B001", "unixReviewTime": "5"}': "line 2: unixReviewTime is '5', not a whole number",
    '{"user_id": "U1", "parent_asin": "B1", "timestamp": 1}': r"line 2: .*this looks like --source amazon-2023",
    "{'reviewerID': open('x')}": r"line 2: not a Python literal \(malformed",
    '{"reviewerID": ': "line 2: not JSON",
}


@pytest.mark.parametrize(("line", "message"), WRONG.items())
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    folder = write_amazon(tmp_path / "in", 2014)
    good = gzip.decompress((folder / FILES[2014][0]).read_bytes()).decode().splitlines()
    rewrite(folder / FILES[2014][0], [good[0], line, *good[1:]])
    with pytest.raises(GreamError, match=message) as caught:
        prepare(tmp_path, folder, 2014)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_literal_is_read_not_run(tmp_path: Path) -> None:
    folder = write_amazon(tmp_path / "in", 2014)
    rewrite(folder / FILES[2014][1], ["{'asin': 'B001', 'title': __import__('os').system('true')}"])
    with pytest.raises(GreamError, match=r"meta_Toys\.json\.gz line 1: not a Python literal"):
        prepare(tmp_path, folder, 2014)


def test_votes_and_tags() -> None:
    assert [net_votes(value) for value in ([2, 3], [0, 5], "1,204", 7, None, "")] == [1, -5, 1204, 7, 0, 0]
    assert plain("<style>p {x}</style><p class='a'>1 < 2 &lt;br&gt;now</p>") == "1 < 2 now"


def test_memory_does_not_grow_with_the_text_of_reviews(tmp_path: Path) -> None:
    """300 reviews of 100 or of 2,000 words (0.2 or 4.7 MB): the Python objects alive at once stay the same."""

    def peak(words: int) -> int:
        text = " ".join(f"word{number}" for number in range(words))
        rows = [Written(f"U{row % 10}", f"B{row % 30}", row, f"{row} {text}") for row in range(300)]
        path = write_amazon(tmp_path / str(words), 2014, rows)
        tracemalloc.start()
        prepare(tmp_path / f"run{words}", path, 2014)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(2000) < peak(100) + 500_000


def test_the_reader_says_what_it_reads(tmp_path: Path) -> None:
    folder = write_amazon(tmp_path, 2014)
    assert AMAZON_2014.files(folder) == [folder / name for name in FILES[2014]]
    assert AMAZON_2014.has_reviews(folder)
    with pytest.raises(GreamError, match="neither a folder nor a file"):
        AMAZON_2014.files(tmp_path / "nowhere")
