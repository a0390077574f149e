"""The environments that `scripts/setup_gpu_env.sh` makes: CUDA wheels, which install and run on a CPU as well.

`make test-gpu-env` makes them and names them here: SFT_VENV, RL_VENV.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Run = Callable[..., str]


def runner(kind: str, folder: Path) -> Run:
    """A function that runs a command of an environment and returns what it printed."""
    environment = ROOT / os.environ.get(f"{kind.upper()}_VENV", f".venv-{kind}")
    if not (environment / "bin" / "gream").exists():
        pytest.skip(f"{environment.name} is not there: scripts/setup_gpu_env.sh {kind}")
    path = os.pathsep.join([str(environment / "bin"), os.environ["PATH"]])

    def run(*words: str, **more: str) -> str:
        known = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **more}
        known.pop("PYTHONPATH", None)
        command = [str(environment / "bin" / words[0]), *words[1:]]
        done = subprocess.run(
            command, env=known, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return run


@pytest.fixture
def sft(tmp_path: Path) -> Run:
    return runner("sft", tmp_path)


@pytest.fixture
def rl(tmp_path: Path) -> Run:
    return runner("rl", tmp_path)


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """A folder with a stand-in for ``libcuda.so.1``, the GPU driver's library, which no package has: each function that
    SGLang's kernels link to says that there is no device. TEST SUPPORT ONLY."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler, to stand in for the driver's library")
    names = (
        "cuInit", "cuGetErrorString", "cuMemAddressFree", "cuMemGetAddressRange_v2", "cuMemRelease",
        "cuMemRetainAllocationHandle", "cuMemSetAccess", "cuMemUnmap", "cuPointerGetAttribute",
    )  # fmt: skip
    folder = tmp_path / "driver"
    folder.mkdir()
    (folder / "cuda.c").write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in names))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"], cwd=folder, check=True)
    return folder
