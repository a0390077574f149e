"""examples/cluster on this machine: Ray's real head, worker and jobs; stand-ins for Slurm's commands alone."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

pytest.importorskip("verl")

from gream_ext.plugins.rl_metrics import read
from tests.support.processes import free_ports
from tests.support.tiny_policy import write_policy, write_prompts

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

CLUSTER = Path(__file__).parents[2] / "examples" / "cluster"
STAND_INS = {
    "scontrol": 'printf "%s\\n" first second\n',
    "srun": 'while case "$1" in --*) true ;; *) false ;; esac; do shift; done\nexec "$@"\n',
    "hostname": "echo 127.0.0.1\n",
}


@pytest.fixture
def environment(tmp_path):
    """Ports of its own, this interpreter first on the path, and no Ray of anybody else's."""
    port, dashboard = map(str, free_ports(2))
    found = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return found | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "RAY_PORT": port,
        "RAY_DASHBOARD_PORT": dashboard,
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "CPUS": "32",
    }


@pytest.fixture
def ended():
    """Ends, whatever happens, the families of the processes that a test names."""
    mark = f"gream-{os.getpid()}-{os.urandom(4).hex()}"
    yield mark
    ours = [process for process in psutil.process_iter() if marked(process, mark)]
    for process in ours:
        process.kill()
    psutil.wait_procs(ours, timeout=30)


def marked(process, mark):
    try:
        return process.environ().get("GREAM_TEST_MARK") == mark
    except psutil.Error:
        return False


def run(command, environment, seconds=600, **options):
    done = subprocess.run(
        [str(word) for word in command],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        **options,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in CLUSTER.iterdir() if path.suffix in (".sh", ".slurm")))
def test_scripts_are_bash(script):
    assert run(["bash", "-n", CLUSTER / script], os.environ)[0] == 0
    assert os.access(CLUSTER / script, os.X_OK)
    text = (CLUSTER / script).read_text()
    assert text.startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in text


@pytest.mark.parametrize(
    ("script", "arguments", "sentence"),
    [
        ("start_ray.sh", [], "say head, or worker HOST:PORT"),
        ("start_ray.sh", ["worker"], "the address of the head is missing"),
        ("submit.sh", [], "what to train is missing"),
        ("srpo.slurm", [], "what to train is missing"),
    ],
)
def test_scripts_say_what_is_missing(script, arguments, sentence):
    code, said = run([CLUSTER / script, *arguments], os.environ)
    assert code == 2
    assert sentence in said


def test_a_job_of_verl_in_a_cluster(tmp_path, environment, ended):
    """`start_ray.sh head`, then `submit.sh` with the CPU recipe: the job trains in the cluster that is there."""
    environment |= {"GREAM_TEST_MARK": ended, "GPUS": "1"}
    write_policy(tmp_path / "sft")
    write_prompts(tmp_path / "rl" / "train.parquet", 32)
    write_prompts(tmp_path / "rl" / "valid.parquet", 8, seed=1)
    code, said = run([CLUSTER / "start_ray.sh", "head"], environment)
    assert code == 0, said
    keys = {
        "workspace": tmp_path,
        "data.train_batch_size": 4,
        "data.max_prompt_length": 32,
        "data.max_response_length": 8,
        "actor_rollout_ref.actor.ppo_mini_batch_size": 4,
        "actor_rollout_ref.rollout.n": 4,
        "actor_rollout_ref.rollout.temperature": 1.0,
        "trainer.val_before_train": "false",
        "trainer.test_freq": -1,
        "trainer.save_freq": -1,
        "trainer.total_training_steps": 1,
    }
    words = [f"{key}={value}" for key, value in keys.items()]
    submit = [CLUSTER / "submit.sh", "+gream=[srpo,cpu]", *words]
    code, said = run(submit, environment | {"PYTHON": sys.executable}, 900)
    assert code == 0, said[-5000:]
    assert "succeeded" in said
    assert [line["step"] for line in read(tmp_path / "rl" / "metrics.jsonl")] == [1]


def test_slurm_script_makes_a_cluster_of_two(tmp_path, environment, ended):
    """A head and a worker on this machine; the command runs once both are there, and everything ends with it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STAND_INS.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{body}")
        (folder / name).chmod(0o755)
    (tmp_path / "count.py").write_text("import ray\nray.init()\nprint('GPUs', ray.cluster_resources()['GPU'])\n")
    environment |= {
        "PATH": f"{folder}:{environment['PATH']}",
        "GREAM_TEST_MARK": ended,
        "SLURM_SUBMIT_DIR": str(CLUSTER),
        "SLURM_JOB_NODELIST": "machines[1-2]",
        "SLURM_JOB_ID": "7",
        "GPUS": "1",
        "CPUS": "2",
        "COMMAND": f"python {tmp_path / 'count.py'}",
    }
    code, said = run([CLUSTER / "srpo.slurm"], environment)
    assert code == 0, said[-5000:]
    assert "all of 2 machines are in the cluster" in said
    assert "GPUs 2.0" in said
    # Ray's agents notice within seconds that their node is gone.
    left = [process for process in psutil.process_iter() if marked(process, ended)]
    assert not psutil.wait_procs(left, timeout=600)[1]


def test_waiting_ends(environment):
    nowhere = f"127.0.0.1:{free_ports(1)[0]}"
    code, said = run([sys.executable, CLUSTER / "wait_for_nodes.py", nowhere, 2, 1], environment)
    assert code == 1
    assert "of 2 machines joined" in said
