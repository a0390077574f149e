"""Our metrics reach the trackers by the frameworks' own means: TensorBoard, and MLflow's file store if installed."""

import importlib.util
from pathlib import Path

import pytest

from gream_ext.plugins.llamafactory.log import read_log
from gream_ext.plugins.rl_metrics import read
from tests.support.tiny_sft import short_curriculum, train
from tests.support.verl_run import make_workspace, running, wait

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.integration


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Each tag's values by step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, dict[int, float]] = {}
    for file in folder.rglob("events.out.tfevents.*"):
        events = EventAccumulator(str(file)).Reload()
        for tag in events.Tags()["scalars"]:
            found.setdefault(tag, {}).update({event.step: event.value for event in events.Scalars(tag)})
    return found


MLFLOW = importlib.util.find_spec("mlflow") is not None
TRACKERS = ["tensorboard", "mlflow"] if MLFLOW else ["tensorboard"]


def places(folder: Path, tensorboard: str) -> dict[str, str]:
    """The variables that say where both trackers write."""
    return {
        tensorboard: str(folder / "events"),
        "MLFLOW_TRACKING_URI": (folder / "mlruns").as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }


def in_mlflow(folder: Path) -> dict[str, dict[int, float]]:
    """Each metric's values by step, of the one run in the file store."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient((folder / "mlruns").as_uri())
    [run] = client.search_runs([one.experiment_id for one in client.search_experiments()])
    history = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return {name: {one.step: one.value for one in values} for name, values in history.items()}


@pytest.mark.skipif(importlib.util.find_spec("llamafactory") is None, reason="no LLaMA-Factory")
def test_the_curriculum_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    keys = short_curriculum(tmp_path, "out", report_to=TRACKERS, logging_steps=2)
    train(keys, **places(tmp_path, "TENSORBOARD_LOGGING_DIR"))
    found, log = scalars(tmp_path / "events"), read_log(tmp_path / "out")
    assert {"train/loss", "train/gream/loss_align", "train/gream/loss_reason", "train/gream/planned"} <= set(found)
    shares = found["train/gream/reason_share"]
    assert list(shares) == list(range(2, len(log) + 1, 2))
    for step, share in shares.items():
        two = log[step - 2 : step]
        rows = [sum(one[name] for one in two) for name in ("align_rows", "reason_rows")]
        assert share == pytest.approx(rows[1] / sum(rows))
        losses = [one["loss"] for one in two if one["kind"] == "reason"]
        if losses:
            assert found["train/gream/loss_reason"][step] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    if MLFLOW:  # which names them without "train/"
        for name, values in in_mlflow(tmp_path).items():
            if name.startswith("gream/"):
                assert values == pytest.approx(found.pop(f"train/{name}"), rel=1e-5)
        assert not any("gream" in name for name in found)


@pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="no Verl")
def test_the_filter_and_the_advantage_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    workspace = make_workspace(tmp_path / "runs")
    loggers = f"[file,{','.join(TRACKERS)}]"
    options = {"trainer.total_training_steps": 1, "trainer.save_freq": -1, "trainer.logger": loggers}
    with running(workspace, variables=places(tmp_path, "TENSORBOARD_DIR"), **options) as process:
        wait(workspace, process)
    found = scalars(tmp_path / "events")
    [line] = read(workspace / "rl" / "metrics.jsonl")
    ours = {name for name in line if name.startswith("gream/")}
    assert {"gream/groups/kept", "gream/groups/refills", "gream/rollouts/wasted", "gream/srpo/sigma"} <= ours
    for name in ours:
        assert found[name] == {1: pytest.approx(line[name], rel=1e-5)}
        assert not MLFLOW or in_mlflow(tmp_path)[name] == {1: pytest.approx(line[name], rel=1e-5)}
