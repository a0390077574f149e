"""Train one model of RecBole in every stated setting, and recommend with the best of them by validation."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.extras.recbole.training import Trained, train, versions


def main(folder: Path) -> None:
    """Do the job of ``job.json``; leave ``items.npy``, ``scores.npy`` and ``result.json`` beside it."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    trials: list[dict[str, Any]] = []
    best: Trained | None = None
    for number, keys in enumerate(job["trials"]):
        begin = time.monotonic()
        trained = train(folder, job, keys, f"{job['model']} {number + 1}/{len(job['trials'])}")
        told = {"keys": keys, **trained.told, "seconds": round(time.monotonic() - begin, 1)}
        trials.append(told)
        print(f"tried {json.dumps(told)}", flush=True)
        if best is None or trained.score > best.score:
            best, chosen = trained, number
    if best is None:
        raise ValueError("the job names no trial")
    items, scores = best.recommend(job["recommendations"])
    np.save(folder / "items.npy", items)
    np.save(folder / "scores.npy", scores)
    result = {"chosen": chosen, "trials": trials, "config": best.config, "versions": versions()}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv.pop(1)).resolve())  # RecBole reads what is left of the command line
