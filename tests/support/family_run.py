"""One family through base-model, a few steps of gream sft and both modes: the table of docs/base_models_measured.md.

    python -m tests.support.family_run [FAMILY …]

prints a row of the table for each. LLaMA-Factory is imported once and trains in this process, with the words that the
launcher would get; the tests of two families go through the launcher.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from gream_ext.base_model import chat_format
from gream_ext.base_model.commands import run as base_model
from gream_ext.base_model.model_format import read_format
from gream_ext.base_model.stages import BaseModelSettings
from gream_ext.corpus.stages import ALIGN, REASON, AlignSettings, ReasonSettings
from gream_ext.errors import GreamError
from gream_ext.evaluation.evaluate import evaluate
from gream_ext.evaluation.stages import EvaluateSettings
from gream_ext.pipeline import sft
from gream_ext.workspace import Workspace
from tests.support.families import FAMILIES, Family, make_family
from tests.support.synthetic import make_workspace

STEPS = 4


@dataclass
class Outcome:
    """What became of a family; ``refused`` is the sentence of base-model."""

    refused: str | None = None
    template: str | None = None
    replaced: bool = False
    told: str = ""
    losses: tuple[float, ...] = ()
    direct: float = 0.0
    reason: float = 0.0


def corpus(folder: Path) -> Workspace:
    """A workspace with a tiny corpus of both kinds, to be copied for each family."""
    workspace = make_workspace(folder, users=20, items=40)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32))
    ALIGN.run(workspace, AlignSettings(max_rows=8, epochs=1, window=7))
    REASON.run(workspace, ReasonSettings(rows=30, epochs=1, system_prompt="short", window=9))
    return workspace


def try_family(workspace: Workspace, family: Family) -> Outcome:
    """Run all stages on a workspace of its own."""
    folder = make_family(workspace.path("family"), family)
    found, told = Outcome(), io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            base_model(workspace, BaseModelSettings(base_model=str(folder), template=family.choose))
    except GreamError as error:
        found.refused = str(error).replace(str(workspace.root), "…")
        return found
    found.told = next((line for line in told.getvalue().splitlines() if "chat template" in line), "")
    found.replaced, found.template = bool(found.told), read_format(workspace.model("base_model")).template
    keys = {
        "template": found.template, "max_steps": STEPS, "per_device_train_batch_size": 2, "cutoff_len": 2048,
        "logging_steps": 1, "save_strategy": "no", "learning_rate": 1e-3,
    }  # fmt: skip
    sft.run(workspace, sft.SftSettings(processes=1, overrides=keys))
    state = json.loads((workspace.model("sft") / "trainer_state.json").read_text())
    found.losses = tuple(entry["loss"] for entry in state["log_history"] if "loss" in entry)
    direct = EvaluateSettings(limit=3, device="cpu", cutoffs=(1,), beams=5)
    sampled = EvaluateSettings(limit=3, device="cpu", mode="reason", n=1, cutoffs=(1,), max_new_tokens=12)
    with contextlib.redirect_stdout(told):
        evaluate(workspace, direct)
        evaluate(workspace, sampled)
    read = [json.loads(workspace.path("evaluation", "sft", f"{mode}-test-first3.json").read_text())
            for mode in ("direct", "reason")]  # fmt: skip
    assert [one["users"] for one in read] == [3, 3]
    assert (read[0]["window"], read[1]["window"], read[1]["system_prompt"]) == (7, 9, "short")
    found.direct, found.reason = read[0]["validity"], read[1]["tokens"]
    return found


def row(family: Family, found: Outcome, seconds: float) -> str:
    if found.refused:
        return f"| {family.name} | `{family.model_type}` | refused | {found.refused} |"
    chosen = " (`--template`)" if family.choose else ""
    written = "replaced" if found.replaced else "its own"
    losses = f"loss {found.losses[0]:.2f} → {found.losses[-1]:.2f}"
    told = found.told.removeprefix("base-model: ")
    return (
        f"| {family.name} | `{family.model_type}` | `{found.template}`{chosen}, chat template {written} | "
        f"{losses}, both modes answer ({seconds:.0f} s){'; ' + told if told else ''} |"
    )


def in_this_process() -> None:
    """Put what starts a process of LLaMA-Factory's on the one that is imported here."""
    from llamafactory.train.tuner import run_exp

    from gream_ext.plugins.llamafactory.template import answer

    def compare(words: list[str], **_: Any) -> Any:
        request, reply = map(Path, words[-2:])
        reply.write_text(json.dumps(answer(json.loads(request.read_text()))))

    def train(words: list[str], **_: Any) -> None:
        pairs = (word.partition("=") for word in words[5:])
        run_exp(
            {**yaml.safe_load(Path(words[4]).read_text()), **{key: yaml.safe_load(value) for key, _, value in pairs}}
        )

    chat_format.subprocess.run = compare  # type: ignore[attr-defined]
    sft.launch = train  # type: ignore[assignment]


def main(names: list[str]) -> None:
    in_this_process()
    chosen = [family for family in FAMILIES if not names or family.name in names]
    for family in chosen:
        begun = time.monotonic()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            found = try_family(corpus(Path(folder)), family)
        print(row(family, found, time.monotonic() - begun), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
