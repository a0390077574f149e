"""Our metrics reach the trackers by the frameworks' own means: both write TensorBoard's event files here."""

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


@pytest.mark.skipif(importlib.util.find_spec("llamafactory") is None, reason="no LLaMA-Factory")
def test_the_curriculum_in_tensorboard(tmp_path: Path) -> None:
    keys = short_curriculum(tmp_path, "out", report_to="tensorboard", logging_steps=2)
    train(keys, TENSORBOARD_LOGGING_DIR=str(tmp_path / "events"))
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


@pytest.mark.skipif(importlib.util.find_spec("verl") is None, reason="no Verl")
def test_the_filter_and_the_advantage_in_tensorboard(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "runs")
    options = {"trainer.total_training_steps": 1, "trainer.save_freq": -1, "trainer.logger": "[file,tensorboard]"}
    with running(workspace, variables={"TENSORBOARD_DIR": str(tmp_path / "events")}, **options) as process:
        wait(workspace, process)
    found = scalars(tmp_path / "events")
    [line] = read(workspace / "rl" / "metrics.jsonl")
    ours = {name for name in line if name.startswith("gream/")}
    assert {"gream/groups/kept", "gream/groups/refills", "gream/rollouts/wasted", "gream/srpo/sigma"} <= ours
    for name in ours:
        assert found[name] == {1: pytest.approx(line[name], rel=1e-5)}
