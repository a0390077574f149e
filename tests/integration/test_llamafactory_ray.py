"""The curriculum in LLaMA-Factory's Ray launch (``USE_RAY=1``): the steps and losses of a run without Ray."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("llamafactory")
pytest.importorskip("ray")

from tests.support.tiny_sft import assert_same_training, environment_of, short_curriculum, train_all

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
    train_all([short_curriculum(tmp_path, "plain")])
    train_with_ray(short_curriculum(tmp_path, "ray", gradient_accumulation_steps=accumulation), workers)
    assert_same_training(tmp_path / "ray", tmp_path / "plain")
