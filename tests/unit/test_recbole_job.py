"""Our splits in RecBole's format, and recommendations back: by hand, on a made-up shop, without RecBole."""

import json

import numpy as np
import pytest

from gream_ext.cli import main
from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import Evaluations, files, read_evaluation, stem, write_evaluation
from gream_ext.extras.recbole.job import Job, catalogue_of_models, make_job, read_result, training_rows, write_job
from gream_ext.extras.recbole.run import finished, read_progress
from gream_ext.extras.recbole.stages import MODELS, RecBoleSettings
from gream_ext.extras.recbole.stages import STAGE as RECBOLE
from gream_ext.extras.report.data import baseline_figures
from gream_ext.extras.report.table import results_table
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

TRAINING = {"u 1": ("a", "b\tc", "d"), "u2": ("d", "a")}
CATEGORIES = {"d": ["Two Words", "x"], "a": [], "b\tc": ["x"]}
CASES = {
    "valid": [Case("u 1", ("a", "b\tc", "d"), "a"), Case("u2", ("d", "a"), "b\tc")],
    "test": [Case("u 1", ("a", "b\tc", "d", "a"), "d"), Case("u2", ("d", "a", "b\tc"), "d")],
}


def job(**changed):
    keys = {
        "model": "SASRec",
        "keys": {},
        "trials": [{}],
        "window": 2,
        "recommendations": 3,
        "seed": 0,
        "attributes": False,
    }
    return Job(**{**keys, **changed})


def test_the_files_by_hand(tmp_path):
    write_job(tmp_path, job(), TRAINING, CASES, CATEGORIES)
    data = {path.name: path.read_text().splitlines() for path in (tmp_path / "gream").iterdir()}
    head = "user_id:token\titem_id_list:token_seq\titem_id:token"
    # Items by their place in the catalogue: d 0, a 1, b\tc 2. The last two of a history are shown.
    assert data["gream.train.inter"] == [head, "0\t1\t2", "0\t1 2\t0", "1\t0\t1"]
    assert data["gream.valid.inter"] == [head, "0\t2 0\t1", "1\t0 1\t2"]
    assert data["gream.test.inter"] == [head, "0\t0 1\t0", "1\t1 2\t0"]
    assert data["gream.item"] == ["item_id:token\tclass:token_seq", "0\t0 1", "1\t", "2\t1"]
    seen, ends = np.load(tmp_path / "test.seen.npy"), np.load(tmp_path / "test.ends.npy")
    assert [part.tolist() for part in np.split(seen, ends[:-1])] == [[0, 1, 2], [0, 1, 2]], "the whole history, not two"
    assert json.loads((tmp_path / "job.json").read_text())["window"] == 2
    write_job(tmp_path / "long", job(window=20), TRAINING, CASES, CATEGORIES)
    assert json.loads((tmp_path / "long" / "job.json").read_text())["window"] == 4, "as long as the longest"


def test_no_held_out_interaction_is_trained(tmp_path):
    workspace = make_workspace(tmp_path)
    training = training_histories(workspace)
    held_out = {(case.user_id, len(case.history)) for case in evaluation_cases(workspace, "valid")}
    rows = list(training_rows(training))
    assert len(rows) == sum(len(history) - 1 for history in training.values())
    assert not held_out & {(user, len(history)) for user, history, _ in rows}
    for user, history, target in rows:
        assert (*history, target) == training[user][: len(history) + 1]


def test_mistakes_in_the_data_are_named(tmp_path):
    with pytest.raises(GreamError, match="'e' is not in the training data or the item index"):
        write_job(tmp_path, job(), {"u 1": ("a", "e"), "u2": ()}, CASES, CATEGORIES)
    with pytest.raises(GreamError, match="FDSA learns from the items' categories, and no item has one"):
        write_job(tmp_path, job(model="FDSA", attributes=True), TRAINING, CASES, {item: [] for item in CATEGORIES})


def test_what_comes_back_by_hand(tmp_path):
    items = np.array([[[0, 1], [2, 1]], [[-1, -1], [1, -1]]], dtype=np.int32)
    np.save(tmp_path / "items.npy", items)
    np.save(tmp_path / "scores.npy", np.where(items < 0, -np.inf, [2.0, 1.0]).astype(np.float32))
    (tmp_path / "result.json").write_text('{"chosen": 0}')
    (seen, unseen), about = read_result(tmp_path, CASES["test"], list(CATEGORIES))
    assert seen["recommendations"].to_list() == [["d", "a"], ["b\tc", "a"]]
    assert seen["scores"].to_list() == [[2.0, 1.0], [2.0, 1.0]]
    assert unseen["recommendations"].to_list() == [[], ["a"]] and unseen["scores"].to_list() == [[], [2.0]]
    assert seen["target"].to_list() == ["d", "d"] and about == {"chosen": 0}
    with pytest.raises(RuntimeError, match="for 1 users"):
        read_result(tmp_path, CASES["test"][:1], list(CATEGORIES))


def test_every_model_has_settings_and_every_setting_is_tried_once():
    shipped = catalogue_of_models()
    assert tuple(shipped["models"]) == MODELS
    rest = {"window": 20, "recommendations": 20, "seed": 0}
    made = make_job("SASRec", {}, 8, **rest)
    assert len(made.trials) == 2 and made.keys["loss_type"] == "CE" and not made.attributes
    assert [one["hidden_dropout_prob"] for one in made.trials] == [0.2, 0.5]
    fixed = {"hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1}
    assert make_job("SASRec", fixed, 8, **rest).trials == [{"hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1}]
    assert len(make_job("SASRec", {}, 1, **rest).trials) == 1
    assert make_job("S3Rec", {}, 8, **rest).attributes


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--models", "SASRek"], "models names 'SASRek'; there are GRU4Rec, Caser"),
        (["--models", "SASRec", "SASRec"], "models must name each model once"),
        (["--models"], "models must name each model once, and at least one"),
        (["--trials", "0"], "'trials' must be at least 1, not '0'"),
        (["--cutoffs", "30"], "cutoffs must be from 1 to 20"),
        (["--python", "no/python"], "--python no/python is not there: scripts/setup_recbole_env.sh makes it"),
    ],
)
def test_mistakes_are_one_line(tmp_path, words, said, capsys):
    make_workspace(tmp_path)
    assert main(["baselines", "recbole", "--workspace", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


def test_a_finished_model_is_known_by_its_key(tmp_path):
    workspace, settings = make_workspace(tmp_path), RecBoleSettings(models=("HGN",))
    paths = [stem(workspace, "HGN", "direct", "test", exclude_seen) for exclude_seen in (False, True)]
    assert not any(finished(path, "abc") for path in paths)
    main(["baselines", "--workspace", str(tmp_path)])
    for exclude_seen in (False, True):
        rows = read_evaluation(stem(workspace, "markov", "direct", "test", exclude_seen))
        write_evaluation(stem(workspace, "HGN", "direct", "test", exclude_seen), rows, {"key": "abc"}, {})
    assert all(finished(path, "abc") and not finished(path, "abd") for path in paths)
    assert {path.name for path in RECBOLE.writes(workspace, settings)} == {
        "direct-test.parquet", "direct-test.json", "direct-test-unseen.parquet", "direct-test-unseen.json",
    }  # fmt: skip


def test_progress_is_read_off_the_output():
    assert read_progress("SASRec 1/2 epoch 3/40 ndcg@10 0.0512").done == 3
    assert read_progress("S3Rec 1/1 pretraining 2/5 loss 12.0").total == 5
    assert read_progress("a warning of RecBole") is None


def bring(workspace: Workspace, other: Workspace, *words: str) -> int:
    return main(["baselines", "bring", "--workspace", str(workspace.root), "--source", str(other.root), *words])


def figures_at(workspace: Workspace, name: str) -> float:
    return float(baseline_figures(Evaluations(workspace), exclude_seen=False)[name]["recall@10"])


def test_two_models_are_compared_over_the_same_users(tmp_path, capsys):
    workspace, other = make_workspace(tmp_path / "w"), make_workspace(tmp_path / "v", users=30)
    for one in (workspace, other):
        main(["baselines", "--workspace", str(one.root)])
    asked = ["compare", "--workspace", str(workspace.root), "--first", "popular", "--second", "markov"]
    capsys.readouterr()
    assert main(asked) == 0
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()[1:]}
    assert list(lines)[:-1] == ["recall@1", "recall@5", "recall@10", "ndcg@1", "ndcg@5", "ndcg@10"]
    first, second, difference = (float(word) for word in lines["recall@10"][1:4])
    assert (first, second) == pytest.approx([figures_at(workspace, name) for name in ("popular", "markov")], abs=1e-4)
    assert difference == pytest.approx(second - first, abs=2e-4) and lines["recall@10"][-1] == "*"
    assert main([*asked, "--figures", "recall@3", "--exclude-seen"]) == 0
    assert "60 users, paired" in capsys.readouterr().out
    for words, said in (
        (["--figures", "pass@1"], "needs the samples of reasoning mode"),
        (["--figures", "recall@1", "luck"], "'luck' is no figure"),
        (["--figures", "recall@0"], "'recall@0' is no figure of an evaluation: take recall@k, ndcg@k"),
        (["--figures", "recall@99"], "'popular': recall@99 goes beyond the 20 items that a user is recommended"),
        (["--mode", "reason"], "has no reason-test of 'popular', but of no model"),
        (
            ["--second", "most_popular"],
            "has no direct-test of 'most_popular', but of co-occurrence, markov, popular: name one",
        ),
        (["--first", ""], "has no direct-test of ''"),
        (["--other", str(other.root)], "cannot be paired: they differ in user_id"),
    ):
        assert main([*asked, *words]) == 2
        told = capsys.readouterr()
        assert said in told.err and not told.out
    about = files(stem(workspace, "markov", "direct", "test", False))[1]
    for intervals, said in (
        (5, "is damaged (its intervals are no JSON object)"),
        ([5], "is damaged (its intervals are no JSON object)"),
        ({"recall@x": [0, 1]}, "is damaged ('recall@x' is no figure)"),
        ({}, "have no figure in common"),
    ):
        about.write_text(json.dumps({"intervals": intervals}))
        assert main(asked) == 2
        told = capsys.readouterr()
        assert said in told.err and not told.out


def test_another_workspace_stands_beside_this_one(tmp_path, capsys):
    here, there = make_workspace(tmp_path / "here"), make_workspace(tmp_path / "there")
    main(["baselines", "--workspace", str(here.root)])
    assert bring(here, there, "--name", "TIGER") == 2
    assert "has no direct evaluation of 'sft' on test users" in capsys.readouterr().err
    main(["baselines", "--workspace", str(there.root)])
    assert bring(here, there, "--name", "TIGER", "--model", "markov") == 0
    assert bring(here, there, "--name", "Our old one", "--model", "popular") == 0
    figures = baseline_figures(Evaluations(here), exclude_seen=True)
    assert list(figures) == ["popular", "markov", "co-occurrence", "TIGER", "Our old one"]
    assert figures["TIGER"]["recall@10"] == figures["markov"]["recall@10"]
    brought = read_evaluation(stem(here, "TIGER", "direct", "test", True))
    assert brought.equals(read_evaluation(stem(there, "markov", "direct", "test", True)))
    table = results_table({"baselines": baseline_figures(Evaluations(here), exclude_seen=False)})
    assert table.groups == [("Baselines", 3), ("Generative", 1), ("Baselines", 1)]
    assert not here.path("evaluation", "results.md").exists(), "the table is the report's"
    assert main(["report", "--workspace", str(here.root)]) == 0
    told = here.path("evaluation", "results.md").read_text().splitlines()
    assert told[0] == "| Metric | Most popular | Markov | Co-occurrence | TIGER | Our old one |"
    assert told[2] == "| | *Baselines* | *Baselines* | *Baselines* | *Generative* | *Baselines* |"
    [line] = [line for line in told[:10] if line.startswith("| Recall@10")]
    assert line.count(f"<u>{figures_at(here, 'markov'):.4f}</u>") == 2, "Markov's figures, second to co-occurrence's"
    assert bring(here, there, "--name", "sft") == 2
    assert "name 'sft' is taken" in capsys.readouterr().err


def test_other_users_are_refused(tmp_path, capsys):
    here, there = make_workspace(tmp_path / "here"), make_workspace(tmp_path / "there", users=30)
    main(["baselines", "--workspace", str(there.root)])
    assert bring(here, there, "--name", "LC-Rec", "--model", "markov") == 2
    assert "has other users or targets than this workspace" in capsys.readouterr().err
    assert not files(stem(here, "LC-Rec", "direct", "test", False))[0].exists()
