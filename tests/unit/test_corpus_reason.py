"""Reasoning data: the template teacher, the gate that every answer passes, and the stage's files."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.files import rejected_path
from gream_ext.corpus.reasoning import Malformed, Reasoning, is_subsequence, read_reasoning, validate_reasoning
from gream_ext.corpus.stages import REASON, ReasonSettings
from gream_ext.corpus.teacher import Question, TemplateTeacher
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

HISTORY = ["<|a_0|><|b_0|>", "<|a_1|><|b_0|>", "<|a_2|><|b_0|>"]
TARGET = "<|a_3|><|b_0|>"
GOOD = Reasoning(
    evidence="The user often chose: tea.",
    preferences="The user likes: tea.",
    intent="The user may now want: tea.",
    kept=f"{HISTORY[0]}, {HISTORY[2]}",
    justification=f"It is close to: {HISTORY[2]}.",
    answer=TARGET,
)


def changed(**parts: str) -> str:
    return Reasoning(**{**vars(GOOD), **parts}).render()


def verdict(text: str, title: str = "Green Tea", max_words: int = 100) -> str | None:
    return validate_reasoning(text, HISTORY, TARGET, title, max_words)


def test_golden_text_of_the_template_teacher() -> None:
    def item(row: int, title: str, *traits: str) -> Item:
        return Item(f"i{row}", row, f"<|a_{row}|><|b_0|>", title, "", "", traits)

    history = (item(0, "Red cup", "cups"), item(1, "Old jug", "jugs"), item(2, "Big cup", "cups", "large"))
    target = item(3, "Huge cup", "cups", "blue")
    embeddings = np.array([[1, 0], [-1, 0.1], [1, 0.2], [1, 0.3]], dtype=np.float32)
    teacher = TemplateTeacher(embeddings, most_kept=6)
    assert teacher.reasoning(Question(0, None, history, target), Random(0)).render() == (
        "<think>\n"
        "Step 1: Extraction of Behavioral Evidence: The user often chose: cups, large, jugs; "
        "lately: cups, large, jugs.\n"
        "Step 2: Modeling of Latent Preferences: The user likes: cups, large, jugs; steady taste.\n"
        "Step 3: Inference of User Intent and Goal Formulation: The user may now want: cups.\n"
        "</think>\n"
        "Let's rewrite the user's purchase history: <|a_0|><|b_0|>, <|a_2|><|b_0|>.\n"
        "It meets this wish and is close to: <|a_2|><|b_0|>.\n"
        "Based on the above analysis, the recommended product is <answer><|a_3|><|b_0|></answer>"
    )
    # Nothing in common: the intent speaks of a change, never of the target.
    stranger = item(3, "Rake", "garden")
    assert teacher.reasoning(Question(0, None, history, stranger), Random(0)).intent == (
        "The user may now want a change from: cups."
    )


def test_read_gives_back_what_was_rendered() -> None:
    assert read_reasoning(GOOD.render()) == GOOD
    assert read_reasoning(GOOD.render().replace("\n", "  \n\n ")) == GOOD
    with pytest.raises(Malformed, match="stands after"):
        read_reasoning(GOOD.render() + " Enjoy!")
    with pytest.raises(Malformed, match="stands before"):
        read_reasoning("Well. " + GOOD.render())


def test_a_good_answer_passes() -> None:
    assert verdict(GOOD.render()) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "stages: no '<think> Step 1"),
        (GOOD.render().replace("Step 2: Modeling of Latent Preferences:", "Then:"), "stages: no 'Step 2"),
        (GOOD.render().replace("</think>\n", ""), 'stages: no "</think>'),
        (changed(intent=""), "stages: intent is empty"),
        (changed(justification=""), "stages: justification is empty"),
        (changed(evidence="tea " * 101), "too long: 111 words"),
        (changed(intent=f"The user wants: {TARGET}."), "leak: the target's identifier"),
        (changed(kept=TARGET), "leak: the target's identifier"),
        (changed(evidence="The user wants a green, TEA."), "leak: the target's title"),
        (changed(kept=f"{HISTORY[2]}, {HISTORY[0]}"), "rewriting: the rewritten history is not a sub-sequence"),
        (changed(kept="<|a_9|><|b_0|>"), "rewriting: the rewritten history is not a sub-sequence"),
        (changed(kept="tea and cups"), "rewriting: the rewritten history is not a list"),
        (changed(answer=HISTORY[0]), "answer: "),
        (changed(answer=f"{TARGET} surely"), "answer: "),
        (GOOD.render() + "</answer>", "stages: "),
        (changed(justification=f"It is <answer>{TARGET}</answer> close."), "stages: a marker stands twice"),
        (changed(justification="</think> It is close."), "stages: a marker stands twice"),
    ],
)
def test_every_fault_has_its_reason(text: str, reason: str) -> None:
    found = verdict(text)
    assert found is not None and found.startswith(reason)


def test_thinking_may_be_exactly_as_long_as_allowed() -> None:
    words = len(f"{GOOD.evidence} {GOOD.preferences} {GOOD.intent}".split())
    assert verdict(GOOD.render(), max_words=words) is None
    assert (verdict(GOOD.render(), max_words=words - 1) or "").startswith("too long: ")


def test_wordings_differ_between_questions_and_between_seeds() -> None:
    item = Item("i0", 0, "<|a_0|>", "", "", "", ("tea",))
    target = Item("i1", 1, "<|a_1|>", "", "", "", ("tea",))

    def texts(numbers: range, seed: int) -> list[str]:
        teacher = TemplateTeacher(np.eye(2), 5, canonical_share=0.5, seed=seed)
        return [
            answer.text for answer in teacher.answers(Question(number, None, (item,), target) for number in numbers)
        ]

    assert len(set(texts(range(30), 0))) > 4
    assert texts(range(30), 0) != texts(range(30), 1)
    assert texts(range(30), 0)[20:] == texts(range(20, 30), 0), "whatever was asked before"


def test_the_title_may_stand_in_the_justification() -> None:
    assert verdict(changed(justification="Green Tea meets this.")) is None


@pytest.mark.parametrize("title", ["英雄", "ハリー・ポッターと賢者の石", "พี่มากพระโขนง", "ຮັກ", "ស្នេហា"])
def test_a_title_without_blanks_around_it_is_found(title: str) -> None:
    text = changed(evidence=f"这个用户喜欢{title}这样的电影。")
    assert verdict(text) is None
    history = HISTORY
    found = validate_reasoning(text, history, TARGET, title)
    assert found == "leak: the target's title stands before the justification"


def test_the_length_of_thinking_counts_without_blanks_too() -> None:
    assert str(verdict(changed(evidence="用户喜欢喝茶" * 40))).startswith("too long: ")
    assert verdict(changed(evidence="用户喜欢喝茶" * 20)) is None


@given(st.lists(st.integers(0, 4), max_size=6), st.lists(st.integers(0, 4), max_size=6))
def test_subsequence_against_all_of_them(part: list[int], whole: list[int]) -> None:
    from itertools import combinations

    assert is_subsequence(part, whole) == (tuple(part) in set(combinations(whole, len(part))))


TRAITS = st.lists(st.sampled_from(["tea", "cups", "jugs", "1990s", "Velta"]), max_size=3, unique=True).map(tuple)


@settings(max_examples=60, deadline=None)
@given(st.lists(TRAITS, min_size=1, max_size=12), TRAITS, st.integers(0, 12), st.integers(1, 8), st.integers(0, 9))
def test_what_the_teacher_writes_always_passes(
    history_traits: list[tuple[str, ...]], target_traits: tuple[str, ...], repeated: int, most_kept: int, seed: int
) -> None:
    history = [
        Item(f"i{row}", row, f"<|a_{row}|><|b_0|>", f"Title {row}", "", "", own)
        for row, own in enumerate(history_traits)
    ]
    # Now and then the user comes back to an item of the history.
    again = len(history) > 1 and repeated < len(history)
    row = repeated if again else len(history)
    target = Item(f"i{row}", row, f"<|a_{row}|><|b_0|>", f"Title {row}", "", "", target_traits)
    embeddings = np.random.default_rng(seed).standard_normal((len(history) + 1, 4))
    teacher = TemplateTeacher(embeddings, most_kept, canonical_share=0.5, seed=seed)
    (answer,) = teacher.answers([Question(seed, None, tuple(history), target)])
    told = [item.identifier for item in history]
    assert validate_reasoning(answer.text, told, target.identifier, target.title) is None


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("reason"), users=30, items=48)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((48, 8), dtype=np.float32))
    return workspace


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_stage_writes_rows_and_nothing_rejected(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    REASON.run(workspace, ReasonSettings(rows=40, epochs=2, system_prompt="short"))
    rows = rows_of(workspace.reason)
    assert len(rows) == 80 and [row["epoch"] for row in rows] == [1] * 40 + [2] * 40
    assert all([message["role"] for message in row["messages"]] == ["system", "user", "assistant"] for row in rows)
    assert {row["teacher"] for row in rows} == {"template"}
    assert "template" not in json.dumps([row["messages"] for row in rows])
    assert len({json.dumps(row["messages"][1:]) for row in rows}) == 80
    assert rejected_path(workspace).read_text() == ""
    assert "80 of 80 answers accepted" in capsys.readouterr().err
    info = json.loads((workspace.corpus / "dataset_info.json").read_text())
    assert info["reason"]["formatting"] == "gream_reason"
    first = workspace.reason.read_bytes()
    REASON.run(workspace, ReasonSettings(rows=40, epochs=2, system_prompt="short"))
    assert workspace.reason.read_bytes() == first


def test_cropped_histories_are_shorter_but_not_too_short(workspace: Workspace) -> None:
    def shown(crop_share: float) -> list[int]:
        REASON.run(workspace, ReasonSettings(rows=0, epochs=1, crop_share=crop_share, min_history=3, window=8))
        return [row["messages"][1]["content"].count("<|a_") for row in rows_of(workspace.reason)]

    whole, cropped = shown(0.0), shown(0.9)
    assert min(cropped) == 3 and max(cropped) == max(whole) == 8
    assert sum(cropped) < 0.9 * sum(whole)


def test_rejected_answers_are_kept_apart(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    REASON.run(workspace, ReasonSettings(rows=10, epochs=1, max_words=30))
    kept, rejected = rows_of(workspace.reason), rows_of(rejected_path(workspace))
    assert len(kept) + len(rejected) == 10 and kept and rejected
    assert all(row["reason"].startswith("too long: ") for row in rejected)
    assert f"too long {len(rejected)}" in capsys.readouterr().err
    assert all("epoch" not in row for row in kept)


def test_no_answer_at_all_is_an_error_that_says_why(workspace: Workspace) -> None:
    REASON.run(workspace, ReasonSettings(rows=10, epochs=1))
    before = workspace.reason.read_bytes()
    with pytest.raises(GreamError, match=r"none of 10 answers was accepted, too long 10: .*rejected\.jsonl holds each"):
        REASON.run(workspace, ReasonSettings(rows=10, epochs=1, max_words=1))
    assert len(rows_of(rejected_path(workspace))) == 10
    assert workspace.reason.read_bytes() == before


def test_no_target_is_asked_twice_in_an_epoch(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, users=8, items=16)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32))
    written = []
    for rows in (0, 10_000):
        REASON.run(workspace, ReasonSettings(rows=rows, epochs=2))
        written.append(workspace.reason.read_bytes())
    assert written[0] == written[1]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, users=8, items=16)
    with pytest.raises(GreamError, match=r"embeddings\.npy is missing: run `gream embed` first"):
        REASON.run(workspace, ReasonSettings())
    np.save(workspace.embeddings, np.zeros((3, 2), dtype=np.float32))
    with pytest.raises(GreamError, match=r"has shape \(3, 2\), but there are 16 items"):
        REASON.run(workspace, ReasonSettings())
    np.save(workspace.embeddings, np.ones((16, 2), dtype=np.float32))
    with pytest.raises(GreamError, match="lower min_history"):
        REASON.run(workspace, ReasonSettings(min_history=100))
