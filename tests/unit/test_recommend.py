"""The command ``recommend`` on a model that knows nothing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.cli import main
from gream_ext.errors import GreamError
from gream_ext.identifiers import Identifier
from gream_ext.inference.commands import SHOWN_HISTORY, explain, listed, make_question
from gream_ext.inference.commands import run_recommend as run
from gream_ext.inference.model import load
from gream_ext.inference.pieces import Pieces
from gream_ext.inference.questions import Answer, Item, Question, Recommendation, Text
from gream_ext.inference.source import latest_model, workspace_source
from gream_ext.inference.stages import RecommendSettings
from gream_ext.inference.titles import Titles
from gream_ext.workspace import INTERACTIONS, Workspace, read_table, write_table
from tests.support.tiny_workspace import make_model_workspace

TITLES = Titles({"1": "Velta (1995)", "2,3": "Comma, The", "4": "Velta Returns"}, {"1": ("Comedy",), "4": ("Drama",)})


ALL = [f"i{number}" for number in range(40)]
"""Every item of the workspace."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_model_workspace(tmp_path_factory.mktemp("recommend"))


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line]


def test_the_model_that_was_trained_last_recommends(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(GreamError, match="run `gream sft` first"):
        latest_model(workspace)
    for time, name in enumerate(("srpo", "sft", "srpo")):
        workspace.model(name).mkdir(exist_ok=True)
        (workspace.model(name) / "config.json").write_text("{}")
        os.utime(workspace.model(name) / "config.json", (time, time))
        assert latest_model(workspace) == name


def test_a_user_gets_titles_with_scores(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(workspace, RecommendSettings(user="u3", n=5))
    said, source = lines(capsys), workspace_source(workspace)
    history = [source.titles.title(item) for item in source.histories()["u3"][-SHOWN_HISTORY:]]
    assert said[0].startswith("History:")
    assert [line.strip() for line in said[1:-5]] == history, "each on a line of its own: titles hold commas"
    scores = [float(line.split()[-1]) for line in said[-5:]]
    assert scores == sorted(scores, reverse=True)
    for line in said[-5:]:
        assert source.titles.title(line.split()[1]) in line


def test_what_was_consumed_is_left_out_where_nobody_comes_back(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = workspace_source(workspace)
    assert source.repeats and make_question(source, RecommendSettings(user="u3")).exclude == frozenset()
    once = Workspace(shutil.copytree(workspace.root, tmp_path / "once"))
    frame = read_table(once.interactions, INTERACTIONS, "prepare")
    write_table(
        frame.unique(["user_id", "item_id"], keep="first", maintain_order=True), once.interactions, INTERACTIONS
    )
    run(once, RecommendSettings(history=["i1", "i2"], n=40, max_tokens=5))
    said = lines(capsys)
    assert said[-1] == "Items of the history are left out: nobody in the data has an item twice (--no-exclude-seen)."
    assert {line.split()[1] for line in said[3:-1]} == set(ALL) - {"i1", "i2"}
    assert main(["recommend", "--workspace", str(once.root), "--history", "i1", "--n", "40", "--no-exclude-seen"]) == 0
    assert {line.split()[1] for line in lines(capsys)[2:]} == set(ALL)


def test_a_history_by_ids_and_what_may_be_recommended(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(workspace, RecommendSettings(history=["i1,i2", "i3"], n=100, exclude_seen=True, categories=["horror"]))
    named = [line.split()[1] for line in lines(capsys)[4:]]
    titles = workspace_source(workspace).titles
    assert set(named) == set(titles.in_categories(["Horror"])) - {"i1", "i2", "i3"}
    run(workspace, RecommendSettings(history=[], n=3))
    said = lines(capsys)
    assert said[0] == "History: none"
    assert len(said) == 4


def test_explaining_comes_first_and_is_the_same_for_a_seed(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    recommender = load(workspace_source(workspace), max_new_tokens=12)
    pieces = list(recommender.reason(Question(("i1",), seed=3)))
    assert isinstance(pieces[-1], Answer)
    assert pieces[-1].tokens <= 12
    assert "cut at 12 tokens" in pieces[-1].status or pieces[-1].tokens < 12
    again = list(recommender.reason(Question(("i1",), seed=3)))
    assert again == pieces
    assert list(recommender.reason(Question(("i1",), seed=4))) != pieces


def test_scores_over_the_vocabulary_are_lower(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    best = []
    for normalisation in ("catalogue", "vocabulary"):
        run(workspace, RecommendSettings(history=["i1"], n=3, normalisation=normalisation))
        best.append(float(lines(capsys)[-3].split()[-1]))
    assert best[1] < best[0] - 0.1


def test_titles_in_a_reasoning_stand_in_quotation_marks(capsys: pytest.CaptureFixture[str]) -> None:
    class Told:
        def reason(self, question: Question) -> object:
            yield from (Text("<think>\nliked "), Item("2,3", "Comma, The"), Text(", "), Item("1", "Velta (1995)"))
            yield Answer(Item("4", "Velta Returns"), "exact", 9)

    explain(Told(), Question(("1",), seed=3))  # type: ignore[arg-type]
    assert capsys.readouterr().out == (
        "liked “Comma, The”, “Velta (1995)”\n\nRecommended: “Velta Returns” (9 tokens, seed 3)\n\n"
    )


def test_many_questions_at_once_are_answered_as_one_by_one(workspace: Workspace) -> None:
    recommender = load(workspace_source(workspace))
    questions = [
        Question(("i1", "i2"), 5), Question((), 30), Question(("i7",), 3, among=frozenset({"i1", "i2", "i9"})),
        Question(("i1",), 20, exclude=frozenset({"i1"})),
    ]  # fmt: skip
    together = recommender.direct(questions)
    assert [len(found) for found in together] == [5, 30, 3, 20]
    for question, found in zip(questions, together, strict=True):
        [alone] = recommender.direct([question])
        assert [one.item_id for one in alone] == [one.item_id for one in found]
        assert [one.score for one in alone] == pytest.approx([one.score for one in found], abs=1e-4)
    with pytest.raises(GreamError, match="holds no item"):
        recommender.direct([Question((), among=frozenset())])


def test_searching_by_title_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = make_model_workspace(tmp_path)
    title = workspace_source(workspace).titles.title("i7")
    (workspace.model("sft") / "model.safetensors").unlink()
    run(workspace, RecommendSettings(search=title.upper()))
    assert lines(capsys)[0].startswith("i7 ")
    run(workspace, RecommendSettings(search="e", n=2))
    assert len(lines(capsys)) == 2
    with pytest.raises(GreamError, match="no title holds 'qqq'"):
        run(workspace, RecommendSettings(search="qqq"))
    with pytest.raises(GreamError, match="cannot be loaded"):
        run(workspace, RecommendSettings(user="u1"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--user", "nobody"], "user 'nobody' is not in the interactions; there are 20 such as u0, u1, u2"),
        (["--history", "i1", "nothing"], "item 'nothing' is not in the catalogue"),
        (["--history", "i1", "--categories", "Nowhere"], "no item is in Nowhere; the largest categories"),
        ([], "needs one of --user ID"),
        (["--user", "u1", "--history", "i1"], "needs one of --user ID"),
        (["--user", "u1", "--n", "0"], "'n' must be at least 1 and at most 1,000, not '0'"),
        (["--user", "u1", "--model", "srpo"], "run `gream rl` first"),
        (["--user", "u1", "--model", "base_model"], "run `gream base-model` first"),
        (["--user", "u1", "--model", "zzz"], "zzz is no model folder; give sft or srpo"),
        (["--user", "u1", "--seed", "-1"], "seed"),
        (["--user", "u1", "--seed", str(2**70)], "seed"),
        (["--user", "u1", "--k", "10"], "--k ranks items after a reasoning: add --explain"),
        (["--user", "u1", "--explain", "--k", "3", "--prior", "co-occurrence"], "leave one of them out"),
        (["--history", *ALL, "--exclude-seen"], "nothing is left to recommend: all items that may be are excluded"),
        (["--user", "u1", "--export", "./no/folder"], "is no folder that `gream export` wrote"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    workspace: Workspace, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recommend", "--workspace", str(workspace.root), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert "\n" not in error


def test_an_empty_workspace_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(GreamError, match="has no trained model: run `gream sft` first"):
        run(Workspace(tmp_path), RecommendSettings(user="u1"))


def test_ids_may_hold_commas_and_unknown_ones_are_looked_up_as_titles() -> None:
    assert listed(TITLES, ["1,4", "2,3"]) == ("1", "4", "2,3")
    with pytest.raises(GreamError, match=r"by that title there are 1 \(Velta \(1995\)\), 4 \(Velta Returns\)"):
        listed(TITLES, ["velta"])


def test_the_question_of_a_user(workspace: Workspace) -> None:
    source = workspace_source(workspace)
    question = make_question(source, RecommendSettings(user="u3", exclude_seen=True, seed=5))
    assert question.history == source.histories()["u3"], "the last interactions included"
    assert question.exclude == frozenset(question.history)
    assert question.seed == 5


def item_of(identifier: Identifier) -> Item | None:
    known = {("<|a_1|>", "<|b_2|>"): "short", ("<|a_1|>", "<|b_2|>", "<|c_3|>"): "long"}
    return Item(known[identifier], known[identifier].upper()) if identifier in known else None


def test_identifiers_become_items_when_they_are_complete() -> None:
    pieces = Pieces(item_of, 3)
    text, found = "", []
    for token in (
        "liked ",
        "<|a_1|>",
        "<|b_2|>",
        "<|c_3|>",
        "<|a_1|>",
        "<|b_2|>",
        ", ",
        "<|a_9|>",
        " end",
        " <",
        "<|a_1|>",
    ):
        text += token
        found.append(list(pieces.grow(text)))
    long, short = Item("long", "LONG"), Item("short", "SHORT")
    assert found == [
        [Text("liked ")], [], [], [long], [], [], [short, Text(", ")], [],
        [Text("<|a_9|> end")], [Text(" ")], [Text("<")],
    ]  # fmt: skip
    assert list(pieces.grow(text, ended=True)) == [Text("<|a_1|>")]


@given(st.lists(st.sampled_from(["<|a_1|>", "<|b_2|>", "<|c_3|>", "<|", "<", "a", ", ", "é", "<think>", "\n"])))
def test_nothing_of_a_response_is_lost_or_repeated(tokens: list[str]) -> None:
    pieces, text, shown = Pieces(item_of, 3), "", []
    for token in tokens:
        text += token
        shown.extend(pieces.grow(text))
    shown.extend(pieces.grow(text, ended=True))
    spelled = {"short": "<|a_1|><|b_2|>", "long": "<|a_1|><|b_2|><|c_3|>"}
    assert "".join(spelled[one.item_id] if isinstance(one, Item) else one.text for one in shown) == text


def test_an_item_added_after_training_is_answered(tmp_path: Path) -> None:
    """It has an identifier of tokens that the model knows: it stands in histories and can be recommended."""
    import polars as pl

    from gream_ext.items.index import ItemIndex
    from gream_ext.workspace import ITEMS, read_table, write_table

    workspace = make_model_workspace(tmp_path)
    items = read_table(workspace.items, ITEMS, "prepare")
    added = items[:1].with_columns(item_id=pl.lit("new"), title=pl.lit("Brand New"))
    write_table(pl.concat([items, added]), workspace.items, ITEMS)
    early = workspace_source(workspace)
    assert "new" not in early.titles and early.titles.in_categories(added["categories"][0]), "prepared, not indexed yet"
    index = ItemIndex.load(workspace.item_index)
    taken = set(map(tuple, index.codes.tolist()))
    place = next((*row[:4], slot) for row in index.codes.tolist() for slot in range(4) if (*row[:4], slot) not in taken)
    codes = [*index.codes.tolist(), list(place)]
    ItemIndex((*index.item_ids, "new"), np.array(codes, dtype=np.int32), index.sizes).save(workspace.item_index)
    recommender = load(workspace_source(workspace))
    everything, among, after = recommender.direct(
        [Question(("i1",), 41), Question((), 5, among=frozenset({"new", "i3"})), Question(("new",), 5)]
    )
    assert "new" in {one.item_id for one in everything} and len(everything) == 41
    assert {one.item_id for one in among} == {"new", "i3"}
    assert len(after) == 5
    [found] = recommender.direct([Question((), 41)])
    assert len({one.item_id for one in found}) == 41, "nobody yet: what the model finds likely for anybody"


def test_ten_items_with_one_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    """What the command shows of a reasoning after which items were ranked, and of one that came to no answer."""
    best = (Recommendation("1", -0.5, "Velta (1995)"), Recommendation("4", -1.25, "Velta Returns"))

    class Told:
        def __init__(self, ranked: tuple[Recommendation, ...]):
            self.ranked = ranked

        def reason(self, question: Question) -> object:
            yield Text("liked")
            yield Answer(None, "cut", 9, "liked", self.ranked)

    for ranked, said in (
        (best, "After 2 reasonings:\n  1  1  Velta (1995)     -0.500\n  2  4  Velta Returns    -1.250\n"),
        ((), "After 2 reasonings nothing: none came to an answer\n"),
    ):
        explain(Told(ranked), Question(("1",), reasonings=2))  # type: ignore[arg-type]
        assert capsys.readouterr().out.endswith(said)


def test_explaining_with_a_list_leaves_direct_mode_out(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    run(workspace, RecommendSettings(history=["i1"], explain=True, k=4, reasonings=2, max_tokens=8, seed=2))
    out = capsys.readouterr().out
    assert "After 2 reasonings" in out and "Direct mode" not in out
