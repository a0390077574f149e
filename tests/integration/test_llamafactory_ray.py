"""The curriculum in LLaMA-Factory's Ray launch (``USE_RAY=1``): the steps and losses of a run without Ray."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("llamafactory")
pytest.importorskip("ray")

from gream_ext.curriculum_log import read_log
from tests.support.tiny_sft import environment_of, make_model, make_rows, settings, train_all, write_corpus

pytestmark = pytest.mark.integration

LAUNCH = """
import sys
import ray
from llamafactory.train import tuner
workers = int(sys.argv.pop())
ray.init(address="local", num_cpus=10 * workers, include_dashboard=False, _node_ip_address="127.0.0.1")
sys.argv += [f"ray_num_workers={workers}", f"master_addr={ray.nodes()[0]['NodeManagerAddress']}"]
# On a cluster without accelerators LLaMA-Factory takes each CPU for a device and asks ten CPUs for each of them, which
# no cluster has: here as many devices as workers.
placement_group = tuner.get_placement_group
tuner.get_placement_group = lambda devices: placement_group(workers)
tuner.run_exp()
"""
WHAT = ("step", "epoch", "kind", "phase", "planned", "align_rows", "reason_rows")


def train_with_ray(keys: dict[str, Any], workers: int) -> None:
    """What ``USE_RAY=1 llamafactory-cli train`` calls, in a local cluster of logical CPUs that ends with it."""
    config = Path(keys["output_dir"]).with_suffix(".yaml")
    config.write_text(yaml.safe_dump(keys))
    environment = environment_of(config.parent) | {"USE_RAY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    run = subprocess.run(
        [sys.executable, "-c", LAUNCH, str(config), str(workers)],
        env=environment, text=True, timeout=600, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-6000:]


@pytest.mark.parametrize(("workers", "accumulation"), [(1, 2), (2, 1)])
def test_ray_trains_the_steps_of_a_run_without_it(tmp_path: Path, workers: int, accumulation: int) -> None:
    make_model(tmp_path / "model")
    write_corpus(tmp_path / "corpus", make_rows("align", 22), make_rows("reason", 10))

    def keys(name: str, **more: Any) -> dict[str, Any]:
        """4 rows a step, one curriculum epoch and a uniform one."""
        chosen = {"gream_curriculum": True, "gream_curriculum_epochs": 1, "num_train_epochs": 2, **more}
        return settings(tmp_path / "model", tmp_path / "corpus", tmp_path / name, **chosen)

    train_all([keys("plain")])
    train_with_ray(keys("ray", gradient_accumulation_steps=accumulation), workers)
    plain, ray = (read_log(tmp_path / name) for name in ("plain", "ray"))
    assert [[one[name] for name in WHAT] for one in ray] == [[one[name] for name in WHAT] for one in plain]
    assert [one["loss"] for one in ray] == pytest.approx([one["loss"] for one in plain], rel=1e-4)
    assert {one["kind"] for one in ray} == {"align", "reason"}
