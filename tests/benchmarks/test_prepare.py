"""5-core and leave-one-out of 5 million made-up interactions, beside pandas: ``pytest tests/benchmarks -k prepare -s``.

``GREAM_BENCHMARK_ROWS=100000`` for a quick look; ``GREAM_BENCHMARK_ROUNDS``: how often each is run, in turns.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("pandas")

ROWS = int(os.environ.get("GREAM_BENCHMARK_ROWS", "5000000"))
ROUNDS = int(os.environ.get("GREAM_BENCHMARK_ROUNDS", "3"))
KINDS = ("ours", "pandas", "pandas-category")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """User and item ids as long as Amazon's; few items are bought often, most users buy little."""
    chance = np.random.default_rng(0)
    users = chance.zipf(1.6, ROWS) % (ROWS // 8)
    users[: ROWS // 2] = chance.integers(0, ROWS // 16, ROWS // 2)
    items = chance.zipf(1.2, ROWS) % (ROWS // 40)
    chance.shuffle(users)
    frame = pl.DataFrame({"user": users, "item": items, "timestamp": chance.integers(1.3e9, 1.6e9, ROWS)})
    path = tmp_path_factory.mktemp("prepare") / "interactions.parquet"
    frame.select(
        user_id=pl.format("A{}", (pl.col("user") * 7919 + 10**12).cast(pl.String)),
        item_id=pl.format("B{}", (pl.col("item") * 31 + 10**8).cast(pl.String)),
        timestamp="timestamp",
    ).write_parquet(path)
    return path


def child(kind: str, table: Path) -> dict[str, Any]:
    result = table.parent / f"{kind}.parquet"
    command = [sys.executable, "-m", "tests.benchmarks.prepare_child", kind, str(table), str(result)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.timeout(7200)
def test_prepare_memory_and_time(table: Path) -> None:
    rounds = [{kind: child(kind, table) for kind in KINDS} for _ in range(ROUNDS)]
    print(f"\n5-core and leave-one-out of {ROWS:,} interactions, {rounds[0]['ours']['kept']:,} kept, {ROUNDS} rounds")
    print(f"{'':16} {'seconds':>8} {'of':>13} {'CPU s':>7} {'table MB':>9} {'peak MB':>8} {'peak/table':>11}")
    peaks = {}
    for kind in KINDS:
        rows = [one[kind] for one in rounds]
        seconds, cpu = ([row[name] for row in rows] for name in ("seconds", "cpu"))
        size, peak = rows[0]["table"], max(row["peak"] for row in rows)
        peaks[kind] = peak / size
        spread = f"{min(seconds):.1f}–{max(seconds):.1f}"
        print(
            f"{kind:16} {statistics.median(seconds):8.1f} {spread:>13} {statistics.median(cpu):7.1f} {size / 1e6:9.0f} "
            f"{peak / 1e6:8.0f} {peaks[kind]:11.2f}"
        )
    print("seconds: median and range; peak: the highest of all rounds")
    order = ["user_id", "position"]
    columns = [*order, "item_id", "timestamp", "split"]
    results = [pl.read_parquet(table.parent / f"{kind}.parquet").select(columns).sort(order) for kind in KINDS]
    assert results[0].equals(results[1]) and results[0].equals(results[2]), "all three give the same histories"
    if ROWS >= 2_000_000:  # below, what every process allocates once weighs more than the table
        assert peaks["ours"] <= 3
