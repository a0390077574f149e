"""RecBole itself, in its own environment, on a made-up shop: every model trains, recommends and is measured."""

import json
import os
from pathlib import Path

import pytest

from gream_ext.cli import main
from gream_ext.data.histories import evaluation_cases
from gream_ext.evaluation.files import read_evaluation, stem
from gream_ext.evaluation.protocol import values
from gream_ext.extras.recbole.stages import MODELS
from gream_ext.workspace import read_json
from tests.support.synthetic import make_workspace

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("GREAM_RECBOLE_PYTHON", ROOT / ".venv-recbole" / "bin" / "python"))
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PYTHON.exists(), reason="needs the environment of scripts/setup_recbole_env.sh"),
]


def train(workspace, *models: str, more: tuple[str, ...] = ()) -> int:
    words = ["baselines", "recbole", "--workspace", str(workspace.root), "--models", *models, "--python", str(PYTHON)]
    keys = ["epochs=2", "train_batch_size=256", "pretrain_epochs=1"]
    return main([*words, "--trials", "1", "--overrides", *keys, *more])


@pytest.mark.parametrize("model", MODELS)
def test_each_model(model, tmp_path, capsys):
    workspace = make_workspace(tmp_path, users=40, items=40)
    assert train(workspace, model) == 0, capsys.readouterr().err
    cases = evaluation_cases(workspace, "test")
    items = {f"i{number}" for number in range(40)}
    for exclude_seen in (False, True):
        path = stem(workspace, model, "direct", "test", exclude_seen)
        rows = read_evaluation(path)
        assert rows["user_id"].to_list() == [case.user_id for case in cases], "every user, in our order"
        for case, found, scores in zip(cases, rows["recommendations"], rows["scores"], strict=True):
            assert len(set(found)) == len(found) == 20 and set(found) <= items
            assert scores.to_list() == sorted(scores, reverse=True)
            if exclude_seen:
                assert not set(found) & set(case.history)
        about = read_json(path.with_name(f"{path.name}.json"), "baselines recbole")
        assert about["recall@10"] == pytest.approx(values(rows, "recall@10").mean())
        [trial] = about["training"]["trials"]
        assert 1 <= trial["epoch"] <= 2 and 0 <= trial["ndcg@10"] <= 1
        assert about["training"]["versions"]["recbole"] == "1.2.1"


def test_a_model_learns_repeats_and_is_not_trained_twice(tmp_path, capsys):
    """The made-up walk is nearly Markov: a model that reads the last item finds the next one."""
    first, second = (make_workspace(tmp_path / name, users=200, items=40) for name in "ab")
    longer = ("epochs=12", "learning_rate=0.005")
    for workspace in (first, second):
        assert train(workspace, "GRU4Rec", more=longer) == 0, capsys.readouterr().err
    ours, theirs = (read_evaluation(stem(one, "GRU4Rec", "direct", "test", False)) for one in (first, second))
    assert ours.equals(theirs)
    assert values(ours, "recall@10").mean() > 0.6  # by chance 0.25
    about = json.loads((first.path("evaluation", "GRU4Rec") / "direct-test.json").read_text())
    capsys.readouterr()
    first.path("stages", "baselines-recbole-gru4rec.json").unlink()
    assert train(first, "GRU4Rec", more=longer) == 0
    assert "GRU4Rec is there" in capsys.readouterr().out
    assert about["training"]["config"]["learning_rate"] == 0.005
