"""The alignment corpus of a workspace in a process of its own, so that its memory can be told.

``python -m tests.benchmarks.corpus_child WORKSPACE EPOCHS`` prints one JSON line.
"""

import json
import sys
import time
from typing import Any

from tests.benchmarks.prepare_child import forget_peak, status


def measure(root: str, epochs: int) -> dict[str, Any]:
    from gream_ext.corpus.stages import ALIGN, AlignSettings
    from gream_ext.corpus.tasks import TASKS
    from gream_ext.workspace import Workspace

    workspace = Workspace(root)
    assert TASKS
    forget_peak()
    before = status("VmRSS")
    start, cpu = time.monotonic(), time.process_time()
    ALIGN.run(workspace, AlignSettings(epochs=epochs))
    seconds, used = time.monotonic() - start, time.process_time() - cpu
    with workspace.align.open("rb") as file:
        rows = sum(1 for _ in file)
    size = workspace.align.stat().st_size
    return {"rows": rows, "bytes": size, "seconds": seconds, "cpu": used, "before": before, "peak": status("VmHWM")}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
