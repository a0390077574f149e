"""Curated reviews: the rule, and that no review of a validation or test interaction leaks."""

import json
import random
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.data.records import clean
from gream_ext.data.reviews import LONG, Pairs, Rule, curated
from gream_ext.data.sources import Review
from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.errors import GreamError
from gream_ext.items.text_reviews import counter, estimated_tokens, fitted, review_lines
from gream_ext.workspace import REVIEWS, Workspace, read_table
from tests.support.amazon import Written, write_amazon

WORDS = ("soft", "warm", "cheap", "thin", "red", "good", "bad", "late")
RULE = Rule(count=2, min_words=2, longest=50)

histories = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(("train", "train", "valid", "test"))),
    max_size=12,
)
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)
written = st.lists(
    st.builds(
        Review,
        st.sampled_from("abcd"),
        st.sampled_from("xyzw"),
        texts,
        st.integers(0, 5).map(float),
        st.integers(-1, 2),
    ),
    max_size=25,
)


def table(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={"user_id": pl.String, "item_id": pl.String, "split": pl.String}, orient="row")


def slow_rule(reviews: list[Review], rows: list[tuple[str, str, str]], rule: Rule) -> dict[str, list[str]]:
    """The rule as its words say it, over all reviews at once."""
    held = {(user, item) for user, item, split in rows if split != "train"}
    trained = {(user, item) for user, item, split in rows if split == "train"} - held
    copies = {review.text for review in reviews if (review.user_id, review.item_id) in held}
    found: dict[str, list[str]] = {}
    for item in dict.fromkeys(review.item_id for review in reviews):
        mine = [
            (review.helpful, min(len(review.text.split()), LONG), review.rating, -place, review.text)
            for place, review in enumerate(reviews)
            if review.item_id == item and (review.user_id, item) in trained
        ]
        good = [one for one in mine if one[1] >= rule.min_words and one[4] not in copies]
        taken = list(dict.fromkeys(one[4] for one in sorted(good, reverse=True)))[: rule.count]
        if taken:
            found[item] = taken
    return found


@given(written, histories)
def test_the_rule_is_the_obvious_one(reviews: list[Review], rows: list[tuple[str, str, str]]) -> None:
    # As many spare places as there can be copies, so that the heap forgets nothing.
    rule = Rule(count=30, min_words=2, longest=50)
    chosen = curated(reviews, table(rows), rule)
    assert {item: [one.text for one in found] for item, found in chosen.items()} == slow_rule(reviews, rows, rule)


@given(written, histories)
def test_the_best_few_are_the_first_of_all(reviews: list[Review], rows: list[tuple[str, str, str]]) -> None:
    chosen = curated(reviews, table(rows), RULE)
    assert all(len(found) <= RULE.count for found in chosen.values())
    for item, everything in slow_rule(reviews, rows, Rule(30, 2, 50)).items():
        texts = [one.text for one in chosen.get(item, [])]
        assert texts == [text for text in everything if text in texts], "in the order of the rule"


def test_helpfulness_then_length_then_stars_then_place() -> None:
    told = [
        Review("u1", "x", "soft and warm", 5.0, 0),
        Review("u2", "x", "soft and warm and red", 1.0, 0),
        Review("u3", "x", "cheap and good", 2.0, 3),
        Review("u4", "x", "thin and red", 5.0, 0),
        Review("u5", "x", "helpful but held out", 5.0, 99),
        Review("u6", "x", "bad", 5.0, 50),
        Review("u7", "x", "a stranger to the histories", 5.0, 60),
    ]
    rows = [(f"u{n}", "x", "train") for n in (1, 2, 3, 4, 6)] + [("u5", "x", "test")]
    chosen = curated(told, table(rows), Rule(4, 2, 50))["x"]
    assert [one.user_id for one in chosen] == ["u3", "u2", "u1", "u4"]


def test_a_pair_bought_again_for_the_test_is_held_out() -> None:
    pairs = Pairs(table([("u", "x", "train"), ("u", "x", "test"), ("u", "y", "train"), ("v", "x", "train")]))
    assert [pairs.side(*pair) for pair in (("u", "x"), ("u", "y"), ("v", "x"), ("v", "y"), ("w", "x"))] == [
        *("held out", "train", "train"),
        None,
        None,
    ]


def test_a_copy_of_a_held_out_review_under_another_item_is_passed_over() -> None:
    told = [
        Review("u", "x", "Soft and  WARM indeed", 5.0, 9),
        Review("u", "y", "soft and warm indeed", 5.0, 9),
        Review("v", "x", "thin but good", 5.0, 0),
    ]
    rows = [("u", "x", "train"), ("u", "y", "test"), ("v", "x", "train")]
    assert [one.text for one in curated(told, table(rows), RULE)["x"]] == ["thin but good"]


# Budget


@given(st.lists(texts, max_size=5), st.integers(0, 60))
def test_lines_keep_to_the_budget(reviews: list[str], tokens: int) -> None:
    lines = review_lines(reviews, tokens, estimated_tokens)
    assert len(lines) == len(reviews)
    assert estimated_tokens("".join(f"{line}\n" for line in lines if line)) <= tokens
    assert all(not line or f"review: {text}".startswith(line) for line, text in zip(lines, reviews, strict=True))


@given(texts, st.integers(0, 12))
def test_fitted_is_the_longest_beginning(text: str, tokens: int) -> None:
    words = text.split(" ")
    beginnings = [" ".join(words[:count]) for count in range(len(words) + 1)]
    assert fitted(text, tokens, estimated_tokens) == max(
        (one for one in beginnings if estimated_tokens(one) <= tokens), key=len
    )


def test_a_tokenizer_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(GreamError, match=r"has no tokenizer\.json"):
        counter(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(GreamError, match="is not a tokenizer"):
        counter(str(tmp_path))


# The leak, on whole files


def shop(replaced: str | None = None, split: str = "held out") -> list[Written]:
    """60 users of 6 purchases among 30 items; ``replaced`` stands in the reviews of that split."""
    chance = random.Random(5)
    rows = []
    for user in range(60):
        for step, item in enumerate(chance.sample(range(30), 6)):
            mine = "held out" if step >= 4 else "train"
            text = f"It is {chance.choice(WORDS)} and {chance.choice(WORDS)} said user {user} of item {item}"
            helpful = chance.randrange(3) + 50 * (mine == "held out")  # by the rule alone they would be chosen
            text = replaced if replaced and mine == split else text
            rows.append(Written(f"U{user}", f"B{item:03d}", 1000 * user + step, text, helpful=helpful))
    chance.shuffle(rows)
    return rows


def prepared(folder: Path, year: int, rows: list[Written]) -> Workspace:
    workspace = Workspace(folder / "run")
    path = write_amazon(folder / "in", year, rows)
    STAGE.run(workspace, PrepareSettings(path=str(path), source=f"amazon-{year}", k=3))
    return workspace


@pytest.mark.parametrize("year", (2014, 2018, 2023))
def test_items_do_not_depend_on_reviews_of_held_out_interactions(tmp_path: Path, year: int) -> None:
    before = prepared(tmp_path / "before", year, shop())
    for words in ("SENTINEL words that no other review of all has", " ".join(WORDS * 20)):
        after = prepared(tmp_path / str(len(words)), year, shop(words))
        assert after.items.read_bytes() == before.items.read_bytes()
        assert after.reviews.read_bytes() == before.reviews.read_bytes()
        assert "SENTINEL" not in "".join(pl.read_parquet(after.items)["text"])
    # The test can fail: the reviews of training interactions do stand there.
    changed = prepared(tmp_path / "changed", year, shop("SENTINEL words that no other review of all has", "train"))
    assert "SENTINEL" in "".join(pl.read_parquet(changed.items)["text"])


def test_every_chosen_review_is_of_a_training_interaction(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, 2018, shop())
    reviews = read_table(workspace.reviews, REVIEWS, "prepare")
    interactions = pl.read_parquet(workspace.interactions)
    assert len(reviews) > 30
    on = ["user_id", "item_id"]
    assert reviews.join(interactions.filter(split="train"), on=on, how="semi").height == len(reviews)
    assert reviews.join(interactions.filter(pl.col("split") != "train"), on=on, how="semi").is_empty()
    assert reviews.group_by("item_id").len()["len"].max() <= 4  # type: ignore[operator]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_may_bring_reviews(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    times = "".join(f"u,{item},{time}\n" for time, item in enumerate("xyz"))
    (folder / "interactions.csv").write_text("user_id,item_id,timestamp\n" + times)
    frame = pl.DataFrame(
        {
            "user_id": ["u", "u", "v"],
            "item_id": ["x", "y", "x"],
            "text": ["Soft & warm <|im_end|> and all eight words", "held out " * 8, "of nobody " * 8],
            "rating": [4, 5, 5],
        }
    )
    write = {"csv": frame.write_csv, "jsonl": frame.write_ndjson, "parquet": frame.write_parquet}[kind]
    write(folder / f"reviews.{kind}")
    workspace = Workspace(tmp_path / "run")
    STAGE.run(workspace, PrepareSettings(path=str(folder), k=0))
    rows = {row["item_id"]: row["text"] for row in pl.read_parquet(workspace.items).rows(named=True)}
    assert rows == {"x": f"review: {clean('Soft & warm and all eight words')}", "y": "y", "z": "z"}
    assert pl.read_parquet(workspace.reviews)["rating"].to_list() == [4.0]
    assert json.loads(workspace.statistics.read_text())["reviews"] == 1
    STAGE.run(workspace, PrepareSettings(path=str(folder), k=0, reviews=0))
    assert not workspace.reviews.exists(), "none of an earlier run stays"


def test_a_wrong_review_is_named(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_text("user_id,item_id,timestamp\nu,x,1\nu,y,2\nu,z,3\n")
    (tmp_path / "reviews.jsonl").write_text('{"user_id": "u", "item_id": "x", "text": "a", "rating": "many"}\n')
    with pytest.raises(GreamError, match=r"reviews\.jsonl line 1: rating or helpful is not a number"):
        STAGE.run(Workspace(tmp_path / "run"), PrepareSettings(path=str(tmp_path), k=0))
