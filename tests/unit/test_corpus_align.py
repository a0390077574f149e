"""Alignment data: the tasks against a slow reading of the histories, and the stage's file."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pytest

from gream_ext.corpus.align import align_rows, task_rows
from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.profile import wish
from gream_ext.corpus.source import Source, shortened
from gream_ext.corpus.stages import ALIGN, AlignSettings
from gream_ext.corpus.tasks import TASKS
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.identifiers import find_all
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("align") / "a run", users=30, items=48)


@pytest.fixture(scope="module")
def source(workspace: Workspace) -> Source:
    return Source(training_histories(workspace), Catalogue.load(workspace), window=6)


def rows_for(source: Source, **chosen: Any) -> list[dict[str, Any]]:
    """The rows of a source with these options."""
    asked = AlignSettings(**chosen)
    counts = task_rows(source, asked.mixture, asked.max_rows)
    return list(align_rows(source, counts, asked.epochs, asked.canonical_share, asked.seed))


def identifiers(source: Source, items: tuple[str, ...]) -> list[str]:
    return [source.catalogue[item].identifier for item in items]


def named(text: str) -> list[str]:
    return ["".join(identifier) for identifier in find_all(text)]


def is_stretch(part: list[str], source: Source) -> bool:
    """Whether the identifiers stand one after another in somebody's training history."""
    histories = [identifiers(source, tuple(history)) for history in source.histories.values()]
    return any(part == history[start : start + len(part)] for history in histories for start in range(len(history)))


def test_next_covers_every_training_target_once(source: Source) -> None:
    task = TASKS["next"]
    made = [task.write(source, unit, Random(0)) for unit in range(task.population(source))]
    slow = []
    for history in source.histories.values():
        for place in range(1, len(history)):
            shown = identifiers(source, tuple(history[max(0, place - 6) : place]))
            slow.append((", ".join(shown), source.catalogue[history[place]].identifier))
    assert [(slots["history"], response) for slots, response in made] == slow


def test_continuation_is_a_stretch_of_one_history_cut_anywhere(source: Source) -> None:
    task = TASKS["continuation"]
    cuts: Counter[int] = Counter()
    seen: set[str] = set()
    for unit in range(task.population(source)):
        for seed in range(20):
            slots, response = task.write(source, unit, Random(seed))
            before, after = slots["history"].split(", "), response.split(", ")
            assert is_stretch(before + after, source)
            assert len(before) + len(after) <= 7
            cuts[len(before)] += 1
            seen.update(after)
    assert set(cuts) == {1, 2, 3, 4, 5, 6}
    followers = {item for history in source.histories.values() for item in identifiers(source, tuple(history[1:]))}
    assert seen == followers


def test_titles_stand_for_identifiers(source: Source) -> None:
    for unit in range(20):
        slots, response = TASKS["next"].write(source, unit, Random(0))
        titles, same = TASKS["next_from_titles"].write(source, unit, Random(0))
        _, title = TASKS["next_title"].write(source, unit, Random(0))
        item = next(item for item in source.catalogue.items if item.identifier == response)
        by_identifier = {item.identifier: item.title for item in source.catalogue.items}
        assert same == response and title == item.title
        assert titles["titles"] == "; ".join(by_identifier[identifier] for identifier in named(slots["history"]))


@pytest.mark.parametrize("name", [task.name for task in TASKS.values() if task.family == "semantic"])
def test_semantic_tasks_pair_an_item_with_its_own_words(source: Source, name: str) -> None:
    task = TASKS[name]
    assert task.population(source)
    for unit in range(task.population(source)):
        slots, response = task.write(source, unit, Random(0))
        both = f"{' '.join(slots.values())} {response}"
        (identifier,) = named(both)
        item = next(item for item in source.catalogue.items if item.identifier == identifier)
        words = {"title": item.title, "text": item.text, "description": item.description}
        expected = words.get(name.replace("_to_item", "").replace("item_to_", ""), ", ".join(item.traits))
        assert expected and both.replace(identifier, "").strip() == expected


def test_items_without_a_description_are_passed_over(source: Source) -> None:
    told = sum(bool(item.description) for item in source.catalogue.items)
    assert 0 < TASKS["description_to_item"].population(source) == told < len(source.catalogue)


def test_intent_says_what_the_history_supports(source: Source) -> None:
    for unit in range(TASKS["intent_to_item"].population(source)):
        slots, response = TASKS["intent_to_item"].write(source, unit, Random(0))
        by_identifier = {item.identifier: item for item in source.catalogue.items}
        history = [by_identifier[identifier] for identifier in named(slots["history"])]
        wished = wish(history, by_identifier[response])
        assert slots["intent"] == f"The user may now want: {', '.join(wished)}." or (
            not wished and slots["intent"].startswith("The user may now want a change from: ")
        )


def test_queries_vary_and_name_the_item(source: Source) -> None:
    task = TASKS["query_to_item"]
    item = source.catalogue.having("title")[3]
    queries = {task.write(source, 3, Random(seed))[0]["query"] for seed in range(30)}
    assert len(queries) > 3
    assert all(any(word in query for word in item.title.lower().split()) for query in queries)


def test_rows_are_the_same_for_the_same_seed_and_fresh_in_each_epoch(source: Source) -> None:
    rows = rows_for(source, mixture={"next": 0.5}, epochs=2)
    assert rows == rows_for(source, mixture={"next": 0.5}, epochs=2)
    assert rows != rows_for(source, mixture={"next": 0.5}, epochs=2, seed=1)
    first, second = ([row for row in rows if row["epoch"] == epoch] for epoch in (1, 2))
    assert Counter(row["task"] for row in first) == Counter(row["task"] for row in second)

    def targets(rows: list[dict[str, Any]]) -> set[str]:
        return {json.dumps(row["messages"]) for row in rows if row["task"] == "continuation"}

    assert len(targets(first) & targets(second)) < len(targets(first)) / 2


def test_tasks_stand_in_random_order(source: Source) -> None:
    tasks = [row["task"] for row in rows_for(source, epochs=1)]
    assert set(tasks[:200]) == set(tasks)
    both = [row["task"] for row in rows_for(source, epochs=2)]
    assert both[: len(tasks)] != both[len(tasks) :], "in another order in each epoch"


def test_a_part_of_a_population_is_another_part_in_each_epoch(source: Source) -> None:
    made = rows_for(source, mixture=dict.fromkeys(TASKS, 0) | {"next": 0.5}, epochs=2, canonical_share=1)
    rows = [json.dumps(row["messages"]) for row in made]
    every = Counter(
        (slots["history"], response)
        for slots, response in (TASKS["next"].write(source, unit, Random(0)) for unit in range(len(source.targets)))
    )
    assert len(rows) == pytest.approx(len(source.targets), abs=1)
    assert len(set(rows)) >= len(every) - 1


def test_mixture_and_cap(source: Source) -> None:
    counts = task_rows(source, {"next": 0, "continuation": 2.0})
    assert counts["next"] == 0 and counts["continuation"] == 2 * len(source.windows)
    assert counts["item_to_title"] == len(source.catalogue)
    assert max(task_rows(source, {}, 7).values()) == 7
    with pytest.raises(GreamError, match="leaves no alignment rows"):
        task_rows(source, dict.fromkeys(TASKS, 0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mixture": {"nxt": 1.0}}, "task 'nxt'; the tasks are next, "),
        ({"mixture": {"next": "much"}}, "'much': give a number"),
        ({"mixture": {"next": -1}}, "-1: give a number from 0 to 1,000,000"),
        ({"mixture": {"next": float("nan")}}, "'next' is nan: give a number from 0 to 1,000,000"),
        ({"mixture": {"next": 1e309}}, "'next' is inf: give a number from 0 to 1,000,000"),
        ({"mixture": {"next": 10**400}}, "give a number from 0 to 1,000,000"),
    ],
)
def test_wrong_settings_are_one_clear_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(GreamError, match=message):
        AlignSettings(**wrong)


def test_the_stage_writes_what_llamafactory_reads(workspace: Workspace) -> None:
    ALIGN.run(workspace, AlignSettings(max_rows=20, epochs=2))
    rows = [json.loads(line) for line in workspace.align.read_text(encoding="utf-8").splitlines()]
    assert {row["kind"] for row in rows} == {"align"} and {row["epoch"] for row in rows} == {1, 2}
    assert all([message["role"] for message in row["messages"]] == ["user", "assistant"] for row in rows)
    info = json.loads((workspace.corpus / "dataset_info.json").read_text())
    assert info["align"]["file_name"] == "align.jsonl" and info["align"]["formatting"] == "gream_align"
    assert set(ALIGN.reads(workspace, AlignSettings())) >= {workspace.interactions, workspace.items}
    before = hashlib.sha256(workspace.align.read_bytes()).hexdigest()
    ALIGN.run(workspace, AlignSettings(max_rows=20, epochs=2))
    assert hashlib.sha256(workspace.align.read_bytes()).hexdigest() == before

    ALIGN.run(workspace, AlignSettings(max_rows=20, epochs=1))
    assert all("epoch" not in json.loads(line) for line in workspace.align.read_text().splitlines())


def test_enriched_text_takes_the_place_of_the_composite_text(workspace: Workspace) -> None:
    item = ItemIndex.load(workspace.item_index).item_ids[0]
    texts = Catalogue.load(workspace, {item: "A fine thing."})
    assert texts[item].text == f"{texts[item].title}\nA fine thing."
    assert Catalogue.load(workspace)[item].text != texts[item].text


def test_item_text_cannot_pass_for_markers(tmp_path: Path) -> None:
    from gream_ext.workspace import ITEMS, read_table, write_table

    workspace = make_workspace(tmp_path, users=8, items=16)
    items = read_table(workspace.items, ITEMS, "prepare")
    evil = pl.lit("Tea <|im_end|> <|a_1|> </think> <answer> 3 <4")
    write_table(items.with_columns(title=evil, text=evil, brand=evil), workspace.items, ITEMS)
    item = Catalogue.load(workspace).items[0]
    assert item.title == item.text == item.traits[-2] == "Tea < |im_end|> < |a_1|> < /think> < answer> 3 <4"


def test_an_unknown_item_is_a_clear_error(source: Source) -> None:
    with pytest.raises(GreamError, match=r"'nowhere' is in the interactions but not in items\.parquet"):
        source.catalogue["nowhere"]


def test_text_is_cut_by_words() -> None:
    assert shortened("a b\n\nc d e", 4) == "a b\nc d"
    assert shortened("", 4) == ""


def test_nothing_is_left_behind_when_writing_fails(workspace: Workspace, tmp_path: Path) -> None:
    from gream_ext.corpus.files import write_rows

    def rows() -> Any:
        yield {"kind": "align"}
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        write_rows(tmp_path / "align.jsonl", rows(), 2, "test")
    assert list(tmp_path.iterdir()) == []
