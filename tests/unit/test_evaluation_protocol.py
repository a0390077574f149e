"""Figures of evaluations and their comparison."""

import numpy as np
import polars as pl
import pytest

from gream_ext.errors import GreamError
from gream_ext.evaluation.files import SAMPLED, files, read_evaluation, stem, write_evaluation
from gream_ext.evaluation.protocol import check_figure, compare, summarise, values
from gream_ext.workspace import Workspace, read_json

DIRECT = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u3"],
        "target": ["a", "b", "c"],
        "recommendations": [["a", "b"], ["a", "b"], ["a", "d"]],
        "scores": [[-0.1, -0.2]] * 3,
        **{column: [[], [], []] for column in SAMPLED},
    }
)
REASON = pl.DataFrame(
    {
        "user_id": ["u1", "u2"],
        "target": ["a", "b"],
        "recommendations": [["a", "d"], []],
        "scores": [[0.5, 0.25], []],
        "item": [["d", "a", "a", None], [None, None, None, None]],
        "matched_levels": [[1, 4, 4, 2], [0, 0, 0, 0]],
        "reward": [[0.5, 1.0, 1.0, 0.7], [0.0, 0.0, 0.0, 0.0]],
        "status": [["partial", "exact", "exact", "partial"], ["no_answer"] * 4],
        "well_formed": [[True, True, True, True], [False] * 4],
        "truncated": [[False] * 4, [True] * 4],
        "tokens": [[10, 20, 30, 40], [50] * 4],
        "text": [["…"] * 4, ["…"] * 4],
    }
)


def test_figures_of_direct_mode():
    figures = summarise(DIRECT, "direct", (1, 2), items=5, popular=["a"])
    assert figures["users"] == 3 and figures["validity"] == 1.0
    assert figures["recall@1"] == pytest.approx(1 / 3) and figures["recall@2"] == pytest.approx(2 / 3)
    assert figures["ndcg@2"] == pytest.approx((1 + 1 / np.log2(3)) / 3)
    assert figures["coverage"] == pytest.approx(3 / 5) and figures["popular_share"] == pytest.approx(3 / 6)
    low, high = figures["intervals"]["recall@2"]
    assert low <= figures["recall@2"] <= high


def test_figures_of_reasoning_mode():
    figures = summarise(REASON, "reason", (1, 2, 4), items=5)
    assert figures["pass@1"] == pytest.approx(0.25)
    assert figures["pass@2"] == pytest.approx((1 - (2 * 1) / (4 * 3)) / 2)
    assert (figures["first@1"], figures["first@2"], figures["pass@4"]) == (0.0, 0.5, 0.5)
    assert figures["well_formed"] == 0.5 and figures["truncated"] == 0.5
    assert figures["answered"] == pytest.approx(3 / 8) and figures["validity"] == pytest.approx(3 / 4)
    assert figures["mean_reward"] == figures["reward"] == pytest.approx(3.2 / 8)
    assert figures["statuses"] == {"exact": 2, "no_answer": 4, "partial": 2}
    assert figures["tokens"] == pytest.approx(37.5)


def test_figures_that_are_not_there_are_refused():
    wrong = ("recall", "recall@x", "recall@0", "recall@²", "ndcg@-1", f"recall@{10**21}", f"ndcg@{'9' * 5000}")
    for column in (*wrong, "precision@1", "pass", "pass@0", "reward@1", "pass@5", "first@5"):
        with pytest.raises(GreamError):
            values(REASON, column)
    with pytest.raises(GreamError, match="needs the samples of reasoning mode"):
        values(DIRECT, "pass@1")


def test_cutoffs_end_with_the_recommendations():
    check_figure(DIRECT, "recall@2")
    check_figure(REASON, "ndcg@4")  # four samples can name four items
    for rows, column, most in ((DIRECT, "recall@3", 2), (DIRECT, "ndcg@99", 2), (REASON, "recall@5", 4)):
        with pytest.raises(GreamError, match=f"{column} goes beyond the {most} items"):
            check_figure(rows, column)
    with pytest.raises(GreamError, match="needs the samples"):
        check_figure(DIRECT, "reward")


def test_where_evaluations_stand():
    workspace = Workspace("w")
    assert stem(workspace, "sft", "direct", "test", False).as_posix() == "w/evaluation/sft/direct-test"
    table, about = files(stem(workspace, "sft", "reason", "valid", True))
    assert (table.name, about.name) == ("reason-valid-unseen.parquet", "reason-valid-unseen.json")


def test_comparing_pairs_users_whatever_their_order(tmp_path):
    better = DIRECT.with_columns(recommendations=pl.Series([["a", "b"], ["b", "a"], ["c", "d"]]))
    settings = {"mode": "direct", "split": "test", "beams": 20}
    write_evaluation(tmp_path / "first", DIRECT, {"users": 3}, settings)
    write_evaluation(tmp_path / "second", better.reverse(), {"users": 3}, settings)
    found = compare(tmp_path / "first", tmp_path / "second", "recall@1")
    assert found == compare(DIRECT, better, "recall@1")
    assert found.difference == pytest.approx(2 / 3) and found.users == 3
    assert found.standard_error == pytest.approx(np.std([0, 1, 1], ddof=1) / np.sqrt(3))
    assert compare(better, DIRECT, "recall@1").difference == pytest.approx(-2 / 3)
    assert read_evaluation(tmp_path / "first.parquet").equals(read_evaluation(tmp_path / "first"))
    assert read_json(tmp_path / "first.json", "evaluate") == {"users": 3}


def test_what_cannot_be_compared_is_refused(tmp_path):
    with pytest.raises(GreamError, match="differ in user_id"):
        compare(DIRECT, DIRECT.head(2), "recall@1")
    with pytest.raises(GreamError, match="differ in target"):
        compare(DIRECT, DIRECT.with_columns(target=pl.lit("a")), "recall@1")
    for name, temperature in (("warm", 0.7), ("hot", 1.0)):
        write_evaluation(tmp_path / name, REASON, {}, {"mode": "reason", "split": "test", "temperature": temperature})
    with pytest.raises(GreamError, match="temperature is"):
        compare(tmp_path / "warm", tmp_path / "hot", "reward")
    with pytest.raises(GreamError, match="is missing"):
        compare(tmp_path / "warm", tmp_path / "nothing", "reward")
