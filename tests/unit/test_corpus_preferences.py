"""Preference summaries and search queries by an LLM, against a fake of an outside endpoint."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from gream_ext.corpus.preferences import preferences_path
from gream_ext.corpus.stages import ALIGN, AlignSettings
from gream_ext.corpus.tasks import TASKS
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.extras.ask.ledger import read_ledger
from gream_ext.extras.ask.preferences import queries_fault, read_queries, summary_fault
from gream_ext.extras.ask.stages import PREFERENCES, PreferenceSettings, preferences_ledger
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import ITEMS, Workspace, read_table
from tests.support.fake_endpoint import Call, FakeEndpoint, Reply
from tests.support.synthetic import make_workspace

SUMMARY = "The user likes many things of one kind, which get larger, and never minds what somebody else would pay."


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path, users=12, items=24)


def tell(call: Call) -> Reply:
    if "search queries" in call.text:
        return Reply("1. thing for the house\n2. 'cheap thing'\n- large thing")
    return Reply(f"<think>hm</think>{SUMMARY}")


def settings(fake: FakeEndpoint, **chosen: Any) -> PreferenceSettings:
    known = {"base_url": fake.url, "model": "fake-model", "min_words": 5}
    return PreferenceSettings(**{**known, **chosen})


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_users_and_items_are_told_of_and_training_text_says_it(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    histories = training_histories(workspace)
    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").iter_rows())
    with FakeEndpoint(tell) as fake:
        PREFERENCES.run(workspace, settings(fake, summaries=2, dry_run=True))
        assert not fake.calls
        expected = sum(min(2, len(history)) for history in histories.values() if len(history) > 1) + len(titles)
        told = re.search(r"(\d+) requests to send, 0 answered already", capsys.readouterr().out)
        PREFERENCES.run(workspace, settings(fake, summaries=2))
        assert told and len(fake.calls) == int(told[1]) <= expected, "equal requests are sent once"
        asked = len(fake.calls)
        before = preferences_path(workspace).read_bytes()
        PREFERENCES.run(workspace, settings(fake, summaries=2))
        assert len(fake.calls) == asked and preferences_path(workspace).read_bytes() == before
        for call in fake.calls:  # nothing held out is sent
            shown = [line.split("] ", 1)[1].split(" — ")[0] for line in call.text.splitlines() if line.startswith("[")]
            stretches = [[titles[item] for item in history] for history in histories.values()]
            assert (
                any(shown == own[start : start + len(shown)] for own in stretches for start in range(len(own)))
                or not shown
            )
    rows = rows_of(preferences_path(workspace))
    assert len(rows) == expected and {row["teacher"] for row in rows} == {"fake-model"}
    assert next(row["queries"] for row in rows if row["kind"] == "query") == [
        "thing for the house", "cheap thing", "large thing",
    ]  # fmt: skip
    ALIGN.run(workspace, AlignSettings(epochs=1))
    index = ItemIndex.load(workspace.item_index)
    made = {task: [row for row in rows_of(workspace.align) if row["task"] == task] for task in TASKS}
    assert {row["messages"][1]["content"] for row in made["preference_summary"]} == {SUMMARY}
    assert all("thing" in row["messages"][0]["content"] for row in made["query_to_item"])
    shown = {
        ", ".join(index.text(item) for item in histories[row["user_id"]][row["place"] - row["shown"] : row["place"]])
        for row in rows
        if row["kind"] == "summary"
    }
    prompts = [re.search(r"<\|a_.*\|>", row["messages"][0]["content"])[0] for row in made["preference_summary"]]  # type: ignore[index]
    assert set(prompts) <= shown, "the history that was told of, and no more"
    assert preferences_path(workspace) in ALIGN.reads(workspace, AlignSettings())


def test_bad_answers_are_asked_again_and_reported(workspace: Workspace) -> None:
    def script(call: Call) -> Reply:
        return Reply("I'm sorry, no.") if "search queries" in call.text or call.number == 0 else tell(call)

    with FakeEndpoint(script) as fake:
        with pytest.raises(
            GreamError, match=r"6 of 12 questions have no answer .query/\w+: answer rejected 2 times: refusal"
        ):
            PREFERENCES.run(workspace, settings(fake, limit=6, rejections=2, concurrency=1))
        kept = rows_of(preferences_path(workspace))
        assert {row["kind"] for row in kept} == {"summary"}, "what was answered is kept"
        PREFERENCES.run(workspace, settings(fake, limit=6, rejections=1, tolerate=1.0))
    rejected = [line["rejected"] for line in read_ledger(preferences_ledger(workspace)) if line["rejected"]]
    assert len(rejected) == 1 + 3 * 6 and all(reason.startswith("refusal: ") for reason in rejected)
    ALIGN.run(workspace, AlignSettings(epochs=1))
    queries = [row for row in rows_of(workspace.align) if row["task"] == "query_to_item"]
    assert len(queries) == 24, "the template teacher tells the rest"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (SUMMARY, None),
        ("Short.", "length: 1 words, not 5 to 30"),
        ("- one\n- two\n- three of them here", "lists: "),
        (f"{SUMMARY} <|a_1|>", "markers: "),
        ("tea " * 29, "repetition: "),
        ("the user likes tea and " * 4 + "cups", None),
        ("Cups and jugs of all kinds " + "-" * 190 + " I'm sorry", None),
    ],
)
def test_what_is_no_summary(answer: str, reason: str | None) -> None:
    found = summary_fault(answer, 5, 30)
    assert found == reason or (reason is not None and (found or "").startswith(reason))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("a cup\nbig cup", None),
        ("a cup", "count: 1 queries, not 2"),
        ("a cup\nA cup", "count: 2 queries, not 2 different"),
        ("a cup\n" + "big " * 3 + "cup here now", "length: a query of 6 words, more than 5"),
        ("<answer>a cup\nb", "markers: "),
    ],
)
def test_what_is_no_list_of_queries(answer: str, reason: str | None) -> None:
    found = queries_fault(answer, 2, 5)
    assert found == reason or (reason is not None and (found or "").startswith(reason))


def test_queries_are_read_without_numbers_and_marks() -> None:
    assert read_queries("1) one two\n\n“three”\n * 4 five") == ["one two", "three", "4 five"]


def test_another_seed_asks_of_other_parts_of_the_histories(workspace: Workspace) -> None:
    def asked(seed: int) -> list[str]:
        with FakeEndpoint(tell) as fake:
            PREFERENCES.run(workspace, settings(fake, queries=0, seed=seed))
        return [f"{row['user_id']}/{row['place']}" for row in rows_of(preferences_path(workspace))]

    assert asked(0) != asked(1) and asked(0) == asked(0)


def test_the_limit_and_the_users_mistakes(workspace: Workspace) -> None:
    with FakeEndpoint(tell) as fake:
        PREFERENCES.run(workspace, settings(fake, limit=3))
        assert len(fake.calls) == 6
        PREFERENCES.run(workspace, settings(fake, limit=3, queries=0))
        assert len(rows_of(preferences_path(workspace))) == 3 and len(fake.calls) == 6
        assert not PREFERENCES.writes(workspace, settings(fake, dry_run=True))
    with pytest.raises(GreamError, match="there is nothing to ask"):
        PreferenceSettings(summaries=0, queries=0)
    with pytest.raises(GreamError, match="an LLM needs --base-url"):
        PREFERENCES.run(workspace, PreferenceSettings())
    row = rows_of(preferences_path(workspace))[0]
    preferences_path(workspace).write_text(json.dumps({**row, "place": 999}) + "\n")
    with pytest.raises(GreamError, match=r"preferences\.jsonl, line 1 is damaged"):
        ALIGN.run(workspace, AlignSettings(epochs=1))
