"""What the trainer writes beside its checkpoints: one JSON line for each optimizer step.

    {"step": 1, "epoch": 1, "kind": "align", "phase": "curriculum", "planned": 0.0002, "loss": 7.1,
     "align_rows": 64, "reason_rows": 0}

``planned`` is p_insert(i) of the alignment batch and of the reasoning batch inserted after it, the
share of reasoning data where both are mixed uniformly, and null for a leftover; ``kind`` and the
rows are what was really trained, over all processes; ``loss`` is what the trainer itself logs.
"""

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gream_ext.curriculum import KINDS
from gream_ext.errors import GreamError
from gream_ext.workspace import whole

LOG_NAME = "curriculum_log.jsonl"
PLAN_NAME = "curriculum.json"
BEST = "gream_best/trained.safetensors"
"""Within the output folder: the weights of the best measurement on validation users, its figures as metadata."""
MEASURED = ("gream/recall_at_10", "gream/ndcg_at_10")
"""What the trainer's log calls them."""


def read_log(output_dir: Path) -> list[dict[str, Any]]:
    """The steps trained so far, in order; an unfinished last line is left out. Empty without a log."""
    try:
        lines = (output_dir / LOG_NAME).read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    try:
        return [json.loads(line) for line in lines if line.endswith(b"\n")]
    except ValueError as error:
        raise GreamError(f"{output_dir / LOG_NAME} is damaged ({error}): remove it") from None


def start_log(output_dir: Path, trained_steps: int) -> None:
    """Keep the records of steps up to ``trained_steps`` and drop the others, so that a resumed run repeats none."""
    kept = [record for record in read_log(output_dir) if record["step"] <= trained_steps] if trained_steps else []
    with whole(output_dir / LOG_NAME) as draft:
        draft.write_text("".join(map(_line, kept)), encoding="utf-8")


def append_log(output_dir: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with (output_dir / LOG_NAME).open("a", encoding="utf-8") as log:
        log.write("".join(map(_line, records)))


def remove_unfinished_checkpoints(output_dir: Path) -> None:
    """Remove checkpoints that a kill left half written; LLaMA-Factory would resume from the newest of them.

    The trainer writes its state last. Renaming is atomic, so every process of this run sees them gone.
    """
    for checkpoint in output_dir.glob("checkpoint-[0-9]*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            aside = checkpoint.with_name(f".unfinished-{checkpoint.name}-{os.getpid()}")
            with suppress(FileNotFoundError):  # another process of this run was faster
                checkpoint.rename(aside)
                shutil.rmtree(aside, ignore_errors=True)


def tracked(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What trackers are told of some steps: means of what there is, the share of reasoning rows, the epoch.

    >>> found = tracked([
    ...     {"epoch": 1, "kind": "align", "planned": 0.2, "loss": 3.0, "align_rows": 4, "reason_rows": 0},
    ...     {"epoch": 1, "kind": "reason", "planned": None, "loss": 2.0, "align_rows": 0, "reason_rows": 4}])
    >>> found["gream/loss_align"], found["gream/loss_reason"], found["gream/planned"], found["gream/reason_share"]
    (3.0, 2.0, 0.2, 0.5)
    """
    if not records:
        return {}
    values = {f"gream/loss_{kind}": [one["loss"] for one in records if one["kind"] == kind] for kind in KINDS}
    values["gream/planned"] = [one["planned"] for one in records if one["planned"] is not None]
    reason = sum(one["reason_rows"] for one in records)
    return {
        **{name: sum(some) / len(some) for name, some in values.items() if some},
        "gream/reason_share": reason / max(1, reason + sum(one["align_rows"] for one in records)),
        "gream/epoch": records[-1]["epoch"],
    }


def measured(entry: Mapping[str, float]) -> str:
    """``recall@10 0.1234, ndcg@10 0.0567``."""
    return ", ".join(f"{name.removeprefix('gream/').replace('_at_', '@')} {entry[name]:.4f}" for name in MEASURED)


def _line(record: Mapping[str, Any]) -> str:
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value
              for key, value in record.items()}  # fmt: skip
    return json.dumps(finite, allow_nan=False) + "\n"
