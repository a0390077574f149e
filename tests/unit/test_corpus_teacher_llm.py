"""Reasoning data by LLM teachers, against a fake of an outside endpoint."""

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.files import rejected_path
from gream_ext.corpus.reasoning import Malformed, read_reasoning
from gream_ext.corpus.stages import REASON, ReasonSettings
from gream_ext.corpus.teacher import Question
from gream_ext.corpus.teachers import assigned, teachers_of
from gream_ext.errors import GreamError
from gream_ext.extras.ask.answers import read_template
from gream_ext.extras.ask.teacher_llm import SLOTS, LlmTeacher, read_answer
from gream_ext.workspace import Workspace
from tests.support.fake_endpoint import Call, FakeEndpoint, Reply, interrupted
from tests.support.synthetic import make_workspace


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path, users=12, items=24)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32))
    return workspace


def item(row: int, title: str, *traits: str) -> Item:
    return Item(f"i{row}", row, f"<|a_{row}|><|b_0|>", title, "", f"{title}\nA thing of use.", traits)


HISTORY = (item(0, "Red cup", "cups"), item(1, "Rake", "garden"), item(2, "Big cup", "cups"))
QUESTION = Question(7, None, HISTORY, item(3, "Huge cup", "cups", "blue"))
GOOD = """Step 1: Extraction of Behavioral Evidence: Cups recur, [1] and [3].
Step 2: Modeling of Latent Preferences:
- The user likes to drink.
Step 3: Inference of User Intent and Goal Formulation: A larger vessel.
Kept: [1], [3]
Justification: Huge cup goes on where [3] ended.
Recommendation: [4]"""


def write(label: str = "", **parts: str) -> str:
    told = {"step1": "Patterns.", "step2": "Tastes.", "step3": "A goal.", "kept": "[1], [2]", "why": "It fits."} | parts
    return (
        f"Step 1: Extraction of Behavioral Evidence: {told['step1']}\n"
        f"Step 2: Modeling of Latent Preferences: {told['step2']}\n"
        f"Step 3: Inference of User Intent and Goal Formulation: {told['step3']}\n"
        f"Kept: {told['kept']}\nJustification: {told['why']}\nRecommendation: {label}"
    )


def label_in(call: Call) -> str:
    return re.search(r"Recommendation: (\[\d+\])", call.text)[1]  # type: ignore[index]


def good(call: Call) -> Reply:
    return Reply(write(label_in(call)))


def settings(fake: FakeEndpoint, **chosen: Any) -> ReasonSettings:
    known = {"rows": 10, "epochs": 1, "teacher": "llm", "base_url": fake.url, "model": "fake-model"}
    return ReasonSettings(**{**known, **chosen})


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_golden_text_of_an_answer() -> None:
    assert read_answer(GOOD, QUESTION).render() == (
        "<think>\n"
        "Step 1: Extraction of Behavioral Evidence: Cups recur, <|a_0|><|b_0|> and <|a_2|><|b_0|>.\n"
        "Step 2: Modeling of Latent Preferences: - The user likes to drink.\n"
        "Step 3: Inference of User Intent and Goal Formulation: A larger vessel.\n"
        "</think>\n"
        "Let's rewrite the user's purchase history: <|a_0|><|b_0|>, <|a_2|><|b_0|>.\n"
        "Huge cup goes on where <|a_2|><|b_0|> ended.\n"
        "Based on the above analysis, the recommended product is <answer><|a_3|><|b_0|></answer>"
    )
    marked = GOOD.replace("Kept:", "**Kept:**").replace("Step 2", "### Step 2")
    assert read_answer(f"<think>hm, [9]</think>\n{marked}.", QUESTION) == read_answer(GOOD, QUESTION)


def test_the_request_holds_history_and_target() -> None:
    template = read_template("teacher.txt", None, SLOTS, SLOTS)
    teacher = LlmTeacher("t", AskSettings("http://localhost/v1", "m"), template, Path("x"), max_words=99)
    system, user = (message["content"] for message in teacher.request(QUESTION).messages)
    assert "recommender" in system
    shown = "[1] Red cup — cups — A thing of use.\n[2] Rake — garden — A thing of use.\n[3] Big cup"
    assert shown in user and "\n[4] Huge cup — cups, blue" in user and "at most 99 words" in user
    again = Question(8, None, (*HISTORY, QUESTION.target), QUESTION.target)
    assert teacher.request(again).messages == teacher.request(QUESTION).messages, "a target that was there is not shown"


def test_numbers_are_those_of_what_was_shown() -> None:
    """Where the user comes back to an item, it is shown as the target alone."""
    again = Question(8, None, (QUESTION.target, *HISTORY), QUESTION.target)
    assert read_answer(GOOD, again) == read_answer(GOOD, QUESTION)


def test_weights_share_the_questions() -> None:
    chosen = ReasonSettings(
        teachers={
            "a": {"base_url": "http://h/v1", "model": "m", "weight": 8},
            "b": {"base_url": "http://h/v1", "model": "n"},
        }
    )
    teachers = teachers_of(chosen, Workspace("nowhere"))
    assert [one.weight for one in teachers] == [8, 1]
    asked = [Question(number, None, HISTORY, QUESTION.target) for number in range(900)]
    shares = [[question.number for question in own] for own in assigned(teachers, asked, seed=0)]
    assert 760 < len(shares[0]) < 840 and sorted(shares[0] + shares[1]) == list(range(900))
    assert shares != [[question.number for question in own] for own in assigned(teachers, asked, seed=1)]
    fewer = [[question.number for question in own] for own in assigned(teachers, asked[:300], seed=0)]
    assert fewer == [[number for number in own if number < 300] for own in shares], "a question keeps its teacher"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("Step 2: Modeling of Latent Preferences:", "Then:"), "stages: no 'Step 2: Modeling"),
        (("A larger vessel.", ""), "stages: nothing stands after 'Step 3"),
        (("Step 1: E", "Sure! Step 1: E"), "stages: 'Sure!' stands before"),
        (("[1], [3]\n", "the cups\n"), "rewriting: Kept is not a list of numbers"),
        (("Cups recur", "Cups [8] recur"), "numbers: [8] names no item"),
        (("Cups recur", "<think>Cups recur"), "markers: "),
        (("Cups recur", "<|a_3|> recurs"), "markers: "),
        (("Step 1: E", "I'm sorry. Step 1: E"), "refusal: "),
        (("Cups recur", "tea " * 400), "repetition: "),
    ],
)
def test_an_answer_that_cannot_be_read_says_why(change: tuple[str, str], reason: str) -> None:
    with pytest.raises(Malformed, match=f"^{re.escape(reason)}"):
        read_answer(GOOD.replace(*change), QUESTION)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"step3": "A huge cup."}, "leak: the target's title"),
        ({"step3": "Something like [4]."}, "leak: the target's identifier"),
        ({"kept": "[1], [4]"}, "leak: the target's identifier"),
        ({"kept": "[2], [1]"}, "rewriting: the rewritten history is not a sub-sequence"),
        ({"label": "[2]"}, "answer: "),
        ({"label": "the huge cup"}, "answer: "),
        ({"step1": " ".join(f"w{n}" for n in range(60))}, "too long: "),
    ],
)
def test_what_can_be_read_is_judged_like_any_answer(change: dict[str, str], reason: str | None) -> None:
    template = read_template("teacher.txt", None, SLOTS, SLOTS)
    teacher = LlmTeacher("t", AskSettings("http://localhost/v1", "m"), template, Path("x"), max_words=40)
    found = teacher._answer(write(**{"label": "[4]", **change}), QUESTION).fault
    assert found == reason or (reason is not None and (found or "").startswith(reason))


def test_every_question_is_answered_once(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeEndpoint(good) as fake:
        REASON.run(workspace, settings(fake, dry_run=True))
        assert "fake-model: 10 requests to send, 0 answered already" in capsys.readouterr().out
        assert not fake.calls and not workspace.reason.exists()
        assert not REASON.writes(workspace, settings(fake, dry_run=True))
        REASON.run(workspace, settings(fake))
        first = workspace.reason.read_bytes()
        REASON.run(workspace, settings(fake, rows=12))
        assert len(fake.calls) == 12, "what was answered is not asked again"
        REASON.run(workspace, settings(fake))
        assert workspace.reason.read_bytes() == first and len(fake.calls) == 12
    rows = rows_of(workspace.reason)
    assert len(rows) == 10 and {row["teacher"] for row in rows} == {"fake-model"}
    assert "fake-model" not in json.dumps([row["messages"] for row in rows])
    for row in rows:
        stages = read_reasoning(row["messages"][2]["content"])
        assert stages.evidence == "Patterns." and stages.kept.count(",") == 1
    assert rejected_path(workspace).read_text() == ""


def test_rejected_answers_are_asked_again_counted_and_kept(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(call: Call) -> Reply:
        faulty = [write("[1]"), write(label_in(call), kept="all of it"), write(label_in(call), step1="tea " * 400)]
        return Reply(faulty[call.number // 2]) if call.number % 2 == 0 and call.number < 6 else good(call)

    with FakeEndpoint(script) as fake:
        REASON.run(workspace, settings(fake, concurrency=1))
        assert len(fake.calls) == 13, "ten questions, three of them twice"
        REASON.run(workspace, settings(fake, concurrency=1))
        assert len(fake.calls) == 13
    told = "10 of 10 answers accepted, answer 1, repetition 1, rewriting 1"
    assert capsys.readouterr().err.count(told) == 2
    rejected = rows_of(rejected_path(workspace))
    assert Counter(row["reason"].partition(":")[0] for row in rejected) == {
        "answer": 1, "repetition": 1, "rewriting": 1,
    }  # fmt: skip
    assert {row["teacher"] for row in rejected} == {"fake-model"}


def test_questions_without_an_answer_are_an_error_unless_tolerated(workspace: Workspace) -> None:
    def script(call: Call) -> Reply:
        return Reply("I cannot help with that.") if call.text == hopeless else good(call)

    with FakeEndpoint(good) as fake:
        REASON.run(workspace, settings(fake, rows=1))
        hopeless = fake.calls[0].text
    Path(workspace.path("reason.ledger.jsonl")).unlink()
    with FakeEndpoint(script) as fake:
        with pytest.raises(GreamError, match=r"1 of 10 questions have no good answer, refusal 2: run again"):
            REASON.run(workspace, settings(fake, rejections=2))
        assert len(rows_of(workspace.reason)) == 9, "what was answered is kept all the same"
        REASON.run(workspace, settings(fake, rejections=1, tolerate=0.2))
        REASON.run(workspace, settings(fake, rejections=1, tolerate=0.1))
        assert len(fake.calls) == 13, "only the missing one was asked again, and a tenth may be missing"


def test_several_teachers_share_the_questions_by_weight(workspace: Workspace) -> None:
    with FakeEndpoint(good) as one, FakeEndpoint(good) as two:
        teachers = {
            "large": {"base_url": one.url, "model": "m1", "weight": 2, "extra": {"top_k": 5}},
            "small": {"base_url": two.url, "model": "m2", "temperature": 0.1},
            "template": {},
        }
        chosen = ReasonSettings(rows=0, epochs=2, teachers=teachers, max_tokens=77)
        REASON.run(workspace, chosen)
        rows = rows_of(workspace.reason)
        shares = Counter(row["teacher"] for row in rows)
        assert sum(shares.values()) == len(rows) and set(shares) == set(teachers)
        assert abs(shares["large"] - len(rows) / 2) < 4 * (len(rows) / 4) ** 0.5
        bodies = one.calls[0].body, two.calls[0].body
        assert [body["model"] for body in bodies] == ["m1", "m2"]
        assert [body["temperature"] for body in bodies] == [0.7, 0.1]
        assert bodies[0]["top_k"] == 5 and bodies[1]["max_tokens"] == 77
        assert not any(name in json.dumps([row["messages"] for row in rows]) for name in ("large", "small", "m1"))
        assert [row["epoch"] for row in rows] == sorted(row["epoch"] for row in rows), "in the order of the questions"
        before = workspace.reason.read_bytes(), len(one.calls)
        REASON.run(workspace, chosen)
        assert (workspace.reason.read_bytes(), len(one.calls)) == before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"teachers": {"a": "b"}}, "teachers: a is 'b': give {base_url"),
        ({"teachers": {"a": {"url": "b"}}}, "teachers: a has no key 'url'; it has base_url, "),
        ({"teachers": {"a": {"weight": 0}}}, "teachers: the weight of a is 0: give a number above 0"),
        ({"teachers": {"template": {"model": "m"}}}, "teachers: template has no key 'model'; it has weight"),
    ],
)
def test_wrong_settings_are_one_clear_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(GreamError, match=re.escape(said)):
        ReasonSettings(**wrong)


def test_a_missing_endpoint_and_a_bad_template_are_named(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(GreamError, match="an LLM needs --base-url"):
        REASON.run(workspace, ReasonSettings(teacher="llm"))
    with pytest.raises(GreamError, match="an LLM needs --model"):
        REASON.run(workspace, ReasonSettings(teacher="llm", base_url="http://localhost/v1"))
    for text in (
        "$history",
        "[system]\na\n[user]\n$history $target",
        "[system]\na\n[user]\n$history $target $label $x",
    ):
        (tmp_path / "my.txt").write_text(text)
        with pytest.raises(GreamError, match=r"my\.txt"):
            REASON.run(
                workspace,
                ReasonSettings(teacher="llm", base_url="http://h/v1", model="m", template=str(tmp_path / "my.txt")),
            )


def test_nothing_held_out_is_sent(workspace: Workspace) -> None:
    """Every item in a request stands in the user's training history; held-out ones are in none unless bought before."""
    from gream_ext.data.histories import training_histories
    from gream_ext.workspace import ITEMS, read_table

    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").iter_rows())
    histories = [[titles[one] for one in history] for history in training_histories(workspace).values()]
    with FakeEndpoint(good) as fake:
        REASON.run(workspace, settings(fake, rows=0))
    assert fake.calls
    for call in fake.calls:
        shown = [
            line.split("] ", 1)[1].split(" — ")[0] for line in call.text.splitlines() if re.match(r"\[\d+\] ", line)
        ]
        assert any(
            history[place] == shown[-1] and set(shown[:-1]) <= set(history[:place])
            for history in histories
            for place in range(len(history))
        )


def test_kill_9_costs_nothing_but_what_was_under_way(workspace: Workspace) -> None:
    """The command itself, killed without warning, then run again."""
    ledger = workspace.path("reason.ledger.jsonl")
    with FakeEndpoint(good, hold_at=4) as fake:
        command = [sys.executable, "-m", "gream_ext.cli", "corpus", "reason", "--workspace", str(workspace.root)]
        command += ["--teacher", "llm", "--base-url", fake.url, "--model", "m", "--concurrency", "2", "--rows", "20"]
        command += ["--epochs", "1"]
        assert interrupted(command, fake, ledger) == (-signal.SIGKILL, 4)
        assert not workspace.reason.exists()
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr[-500:]
        assert len(rows_of(workspace.reason)) == 20
        assert len(fake.calls) <= 22, "twice only what was under way when it was killed"
