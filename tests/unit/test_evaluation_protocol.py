"""Figures of evaluations and their comparison."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.data.histories import Case
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import SAMPLED, files, ranked_rows, read_evaluation, stem, write_evaluation
from gream_ext.evaluation.protocol import check_figure, compare, impossible_targets, summarise, summary_line, values
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


ITEMS = [f"i{number}" for number in range(9)]


@st.composite
def evaluations(draw: st.DrawFn) -> tuple[pl.DataFrame, int]:
    """Rows of reasoning mode, whatever a model may have answered, and the number of samples."""
    users, samples = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    rows = []
    for user in range(users):
        named = draw(st.lists(st.none() | st.sampled_from(ITEMS), min_size=samples, max_size=samples))
        ranked = draw(st.permutations(ITEMS))[: draw(st.integers(0, 9))]
        formed = [item is not None or draw(st.booleans()) for item in named]
        rows.append(
            {
                "user_id": f"u{user}",
                "target": draw(st.sampled_from(ITEMS)),
                "recommendations": ranked,
                "scores": [1.0] * len(ranked),
                "item": named,
                "matched_levels": [draw(st.integers(0, 4)) for _ in named],
                "reward": [draw(st.sampled_from([0.0, 0.25, 1.0])) for _ in named],
                "status": [draw(st.sampled_from(["exact", "partial", "no_answer"])) for _ in named],
                "well_formed": formed,
                "truncated": [draw(st.booleans()) for _ in named],
                "tokens": [draw(st.integers(1, 90)) for _ in named],
                "text": ["…"] * samples,
            }
        )
    kinds = {"recommendations": pl.List(pl.String), "scores": pl.List(pl.Float64), "item": pl.List(pl.String)}
    return pl.DataFrame(rows, schema_overrides=kinds), samples


@given(evaluations(), st.integers(1, 9), st.sets(st.sampled_from(ITEMS)))
def test_a_summary_is_what_its_rows_say(made, cutoff, popular):
    """Each figure against its definition, user by user; what is beyond the longest cutoff counts nowhere."""
    rows, _ = made
    figures = summarise(rows, "direct", sorted({1, cutoff}), items=20, popular=sorted(popular))
    users = rows.to_dicts()
    seen = [item for row in users for item in row["recommendations"][:cutoff]]
    assert figures["coverage"] == pytest.approx(len(set(seen)) / 20)
    share = sum(item in popular for item in seen) / len(seen) if seen and popular else None
    assert figures["popular_share"] == (share if share is None else pytest.approx(share))
    for k in (1, cutoff):
        hits = [row["target"] in row["recommendations"][:k] for row in users]
        assert figures[f"recall@{k}"] == pytest.approx(np.mean(hits))
        low, high = figures["intervals"][f"recall@{k}"]
        assert 0 <= low <= figures[f"recall@{k}"] <= high <= 1
    longer = rows.with_columns(recommendations=pl.col("recommendations").list.head(cutoff))
    assert summarise(longer, "direct", sorted({1, cutoff}), 20, sorted(popular)) == figures


@given(evaluations())
def test_a_summary_of_samples_is_what_its_rows_say(made):
    rows, n = made
    users, figures = rows.to_dicts(), summarise(rows, "reason", (1, n) if n > 1 else (1,), items=20)
    samples = [{name: row[name][place] for name in SAMPLED} for row in users for place in range(n)]
    for name in ("well_formed", "truncated", "reward", "tokens"):
        assert figures[name] == pytest.approx(np.mean([float(one[name]) for one in samples]))
    real = sum(one["item"] is not None for one in samples)
    formed = sum(one["well_formed"] for one in samples)
    assert figures["answered"] == pytest.approx(real / len(samples))
    assert figures["validity"] == (pytest.approx(real / formed) if formed else None)
    assert figures["statuses"] == Counter(one["status"] for one in samples)
    hits = [[item == row["target"] for item in row["item"]] for row in users]
    assert figures["pass@1"] == pytest.approx(np.mean(hits))
    assert figures["first@1"] == pytest.approx(np.mean([hit[0] for hit in hits]))
    assert figures[f"pass@{n}"] == figures[f"first@{n}"] == pytest.approx(np.mean([any(hit) for hit in hits]))
    assert values(rows, "matched_levels").tolist() == pytest.approx([np.mean(row["matched_levels"]) for row in users])


def test_samples_must_be_as_many_for_every_user():
    uneven = pl.concat([REASON, REASON.with_columns(item=pl.col("item").list.head(2))])
    for rows in (uneven, REASON.clear()):
        with pytest.raises(GreamError, match="as many for every user"):
            values(rows, "answered")


@pytest.mark.parametrize("mode", ["direct", "reason"])
def test_only_what_changes_an_answer_stops_a_comparison(tmp_path, mode):
    """In direct mode nothing is sampled: how makes no difference."""
    common, rows = {"split": "test", "exclude_seen": False}, DIRECT if mode == "direct" else REASON
    sampled = {"n": 4, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 9, "constrained": True, "faithful": True}
    own = {"direct": {"beams": 20, "normalisation": "catalogue"}, "reason": sampled}
    settings = {"mode": mode, **common, **own["direct"], **own["reason"], "seed": 0}
    figure = "recall@1" if mode == "direct" else "reward"
    write_evaluation(tmp_path / "first", rows, {}, settings)
    for name, value in settings.items():
        write_evaluation(tmp_path / "second", rows, {}, {**settings, name: f"not {value}"})
        if name in ("mode", *common, *own[mode]):
            with pytest.raises(GreamError, match=f"cannot be compared: {name} is"):
                compare(tmp_path / "first", tmp_path / "second", figure)
        else:
            assert compare(tmp_path / "first", tmp_path / "second", figure).difference == 0


def test_targets_that_excluding_seen_items_makes_impossible():
    cases = [Case("u", ("a", *"bcdefghijklmnopqrstuvwxyz"), target) for target in ("a", "z", "A", "B")]
    assert impossible_targets(cases) == 0.5
    figures = {"recall@1": 0.1, "recall@5": 0.25, "ndcg@1": 0.05, "ndcg@5": 0.125, "users": 4}
    line = "recall@1 0.1000, recall@5 0.2500, ndcg@1 0.0500, ndcg@5 0.1250 (4 users)"
    assert summary_line(figures, ["recall", "ndcg"], (1, 5)) == line
    assert summary_line({**figures, "impossible_targets": 0.0}, ["recall", "ndcg"], (1, 5)) == line
    assert summary_line({**figures, "impossible_targets": 0.5}, ["recall", "ndcg"], (1, 5)).startswith(
        f"{line}; 50.0% of the targets were seen before"
    )


def test_rankings_as_rows():
    cases = [Case("u1", ("a",), "b"), Case("u2", (), "c")]
    rows = ranked_rows(cases, [[("b", 2.0), ("a", 1.0)], []])
    assert rows.select("user_id", "target", "recommendations").rows() == [("u1", "b", ["b", "a"]), ("u2", "c", [])]
    assert rows["scores"].to_list() == [[2.0, 1.0], []]
    assert values(rows, "recall@1").tolist() == [1.0, 0.0] and values(rows, "ndcg@2").tolist() == [1.0, 0.0]
    assert ranked_rows(cases, [[], []])["recommendations"].to_list() == [[], []]
