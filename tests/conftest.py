"""What all tests share; set before torch is imported: one thread, no network, the environment's bin on PATH."""

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])

import pytest
from hypothesis import settings

from gream_ext.workspace import Workspace

# No clock: a slow machine fails no test. The same examples in every run.
settings.register_profile("gream", deadline=None, derandomize=True)
settings.load_profile("gream")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark by folder; run the fast tests first."""
    order = {"unit": 0, "integration": 1, "e2e": 2, "benchmarks": 3}
    for item in items:
        for folder in ("integration", "e2e"):
            if folder in item.path.parts:
                item.add_marker(folder)
    items.sort(key=lambda item: next((order[part] for part in item.path.parts if part in order), 0))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace in a folder whose name has a space."""
    return Workspace(tmp_path / "a workspace")
