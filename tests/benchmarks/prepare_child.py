"""5-core and leave-one-out of one Parquet file in a process of its own, so that its memory can be told.

``python -m tests.benchmarks.prepare_child ours|pandas|pandas-category TABLE RESULT`` prints one JSON line.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

K = 5


def status(name: str) -> int:
    """A figure of /proc/self/status in bytes: VmRSS (now) or VmHWM (the most since `forget_peak`)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def ours(path: str) -> Any:
    import polars as pl

    from gream_ext.data.filtering import k_core
    from gream_ext.data.ids import compact
    from gream_ext.data.splitting import leave_one_out

    table = [pl.read_parquet(path)]
    yield table[0].estimated_size()
    # As gream_ext.data.prepare.histories_of does it: no table is held longer than it is needed.
    kept = k_core(compact(table.pop()), K)
    split = leave_one_out(kept)
    yield split
    split.cast({pl.Categorical: pl.String, pl.Enum: pl.String}).write_parquet(sys.argv[3])
    yield len(split)


def in_pandas(path: str, category: bool) -> Any:
    """The same as anybody would write it."""
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(path)
    yield int(table.memory_usage(deep=True).sum())
    if category:
        table = table.astype({"user_id": "category", "item_id": "category"})
    kept = table
    del table
    while True:
        users = kept.groupby("user_id", observed=True)["item_id"].transform("size")
        items = kept.groupby("item_id", observed=True)["user_id"].transform("size")
        good = (users >= K) & (items >= K)
        if good.all():
            break
        kept = kept[good]
    kept = kept.sort_values(["user_id", "timestamp"], kind="stable")
    groups = kept.groupby("user_id", observed=True)
    position = groups.cumcount()
    left = groups["item_id"].transform("size") - 1 - position
    split = np.select([left == 0, left == 1], ["test", "valid"], "train")
    kept = kept.assign(position=position.astype("int32"), split=split)
    yield kept
    kept.astype({"user_id": str, "item_id": str}).to_parquet(sys.argv[3], index=False)
    yield len(kept)


def main() -> None:
    kind, path = sys.argv[1:3]
    import numpy  # noqa: F401  # all that is imported anyway must not count
    import pandas  # noqa: F401
    import polars as pl

    pl.DataFrame({"warm": [1]}).write_parquet(sys.argv[3])
    pl.read_parquet(sys.argv[3])
    before = status("VmRSS")
    steps = ours(path) if kind == "ours" else in_pandas(path, kind == "pandas-category")
    table = next(steps)
    gc.collect()
    forget_peak()
    started, cpu = time.perf_counter(), time.process_time()
    next(steps)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    peak = status("VmHWM") - before
    figures = {"table": table, "peak": peak, "seconds": seconds, "cpu": cpu}
    print(json.dumps({"kind": kind, **figures, "kept": next(steps)}))


if __name__ == "__main__":
    main()
