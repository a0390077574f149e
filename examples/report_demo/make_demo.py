"""A workspace of made-up users, items and figures, to look at the report without training anything.

    python examples/report_demo/make_demo.py runs/demo
    gream report --workspace runs/demo --title "Film club" --banner "Made-up users, items and figures."

Nothing in it is real: the shop is invented, the models' answers and the training curves are drawn by chance. It is
what the picture of the report in the README shows, because the data of the quickstart may not be redistributed.
"""

import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from shop import GENRES, make_shop

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.teacher import Question, TemplateTeacher
from gream_ext.curriculum import KINDS, PHASES, CurriculumSettings, plan_epoch
from gream_ext.data.histories import Case, evaluation_cases
from gream_ext.evaluation.files import SAMPLED, stem, write_evaluation
from gream_ext.evaluation.protocol import summarise
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.llamafactory.log import LOG_NAME, append_log
from gream_ext.rewards import compute_score
from gream_ext.workspace import Workspace, write_json

RECALLS = {"popular": 0.052, "markov": 0.117, "sft": 0.134, "srpo": 0.136}
"""Recall@10 that the drawn answers of each recommender come to, about."""
UNSEEN = 1.3
"""By how much it grows when what a user has seen is left out."""
SAMPLES = 10
SECONDS = {"prepare": 2.4, "embed": 31.0, "index build": 6.2, "index report": 3.9, "base-model": 9.5,
           "corpus align": 17.8, "corpus reason": 12.4, "corpus rl": 1.6, "sft": 588.0, "rl": 402.0, "baselines": 2.2,
           "evaluate sft direct test": 14.1, "evaluate sft reason test": 71.3, "evaluate srpo direct test": 14.0,
           "evaluate srpo reason test": 69.8}  # fmt: skip


def make_demo(folder: str | Path, users: int = 600, items: int = 320, rl: bool = True, seed: int = 0) -> Workspace:
    """Write the workspace; ``rl`` False leaves it as it stands before reinforcement learning."""
    workspace = Workspace(folder)
    chance = random.Random(seed)
    make_shop(workspace, users, items, chance)
    make_curves(workspace, rl, chance)
    make_answers(workspace, ("sft", "srpo") if rl else ("sft",), chance)
    for number, (label, seconds) in enumerate(SECONDS.items()):
        if rl or not ("rl" in label.split() or "srpo" in label):
            make_record(workspace, label, seconds, number)
    return workspace


def make_curves(workspace: Workspace, rl: bool, chance: random.Random) -> None:
    """A curriculum as the real planner draws it, with losses that fall; rewards that rise."""
    settings = CurriculumSettings(epochs=3, batch_rows=1)
    steps: list[dict[str, Any]] = []
    for epoch in (1, 2, 3):
        plan = plan_epoch(360, 130, epoch, settings)
        for kind, planned, phase in zip(plan.kind.tolist(), plan.planned.tolist(), plan.phase.tolist(), strict=True):
            reason = KINDS[kind] == "reason"
            falling = 3.1 * math.exp(-len(steps) / 130) + 0.55 if reason else 3.6 * math.exp(-len(steps) / 240) + 2.3
            steps.append(
                {"step": len(steps) + 1, "epoch": epoch, "kind": KINDS[kind], "phase": PHASES[phase],
                 "planned": planned, "loss": falling + chance.gauss(0, 0.05 if reason else 0.13),
                 "align_rows": 0 if reason else 64, "reason_rows": 64 if reason else 0}
            )  # fmt: skip
    (workspace.model("sft")).mkdir(parents=True)
    append_log(workspace.model("sft"), steps)
    assert (workspace.model("sft") / LOG_NAME).exists()
    if rl:
        lines = [f"{json.dumps({'step': step, 'data': rl_metrics(step, chance)})}\n" for step in range(1, 61)]
        workspace.path("rl").mkdir(parents=True, exist_ok=True)
        workspace.path("rl", "metrics.jsonl").write_text("".join(lines), encoding="utf-8")


def rl_metrics(step: int, chance: random.Random) -> dict[str, float]:
    """What Verl's logger and our group filter in it write for one step."""
    grown = 1 - math.exp(-step / 25)
    shares = ((0.7, -0.05), (0.17, 0.0), (0.07, 0.02), (0.03, 0.015), (0.015, 0.005), (0.015, 0.01))
    drawn = [max(0.002, share + rise * grown + chance.gauss(0, 0.006)) for share, rise in shares]
    levels = [share / sum(drawn) for share in drawn]
    return {
        "gream/rollouts/reward": sum(share * math.sqrt(level / 5) for level, share in enumerate(levels)),
        **{f"gream/levels/{level}": share for level, share in enumerate(levels)},
        "gream/groups/kept_rate": 0.62 + 0.14 * grown + chance.gauss(0, 0.03),
        "gream/rollouts/well_formed": min(1.0, 0.95 + 0.045 * grown + chance.gauss(0, 0.004)),
        "response_length/mean": 96 - 7 * grown + chance.gauss(0, 0.8),
    }


def make_answers(workspace: Workspace, models: Sequence[str], chance: random.Random) -> None:
    """Answers with about the wanted hits; a user who is easy for one recommender is easy for all."""
    index = ItemIndex.load(workspace.item_index)
    easy = {case.user_id: chance.random() for case in evaluation_cases(workspace, "test")}
    catalogue = Catalogue.load(workspace)
    vectors = np.eye(len(GENRES), dtype=np.float32)[index.codes[:, 0]]
    vectors = vectors + np.random.default_rng(0).normal(0, 0.3, vectors.shape).astype(np.float32)
    teacher = TemplateTeacher(vectors, most_kept=5)
    for name in ("popular", "markov", *models):
        for unseen in (False, True):
            wanted = RECALLS[name] * (UNSEEN if unseen else 1)
            rows = [direct_row(case, wanted, easy, index, chance) for case in evaluation_cases(workspace, "test")]
            write(workspace, name, "direct", "test", unseen, rows, index)
    for name in models:
        for split in ("test", "valid"):
            gain = 1.8 if name == "srpo" else 1.0
            rows = []
            for case in evaluation_cases(workspace, split):
                history = catalogue.get(case.history[-20:])
                items = [sampled_item(case, 0.022 * gain * (1 - easy[case.user_id]), index, chance)
                         for _ in range(SAMPLES)]  # fmt: skip
                text = [
                    teacher.reasoning(Question(0, None, tuple(history), catalogue[item]), chance).render()
                    for item in items[:1]
                ]
                rows.append(reason_row(case, items, text * SAMPLES, index))
            write(workspace, name, "reason", split, False, rows, index)


def neighbour(case: Case, index: ItemIndex, chance: random.Random) -> str:
    """An item other than the target, mostly of the genre of the last film."""
    genre = int(index.codes[index.position[case.history[-1]], 0]) if chance.random() < 0.8 else None
    while True:
        item = chance.choice(index.item_ids)
        if item != case.target and genre in (None, int(index.codes[index.position[item], 0])):
            return item


def direct_row(
    case: Case, recall: float, easy: dict[str, float], index: ItemIndex, chance: random.Random
) -> dict[str, Any]:
    items: list[str] = []
    while len(items) < 20:
        items.extend({neighbour(case, index, chance)} - set(items))
    difficulty = min(0.999, max(0.0, easy[case.user_id] + chance.gauss(0, 0.012)))
    if difficulty < recall:
        # Every tenth of the hits at the first place more than at the tenth.
        items.insert(min(int(10 * (difficulty / recall) ** 1.1), 9), case.target)
    scores = sorted((-2 - chance.expovariate(0.7) for _ in items[:20]), reverse=True)
    empty: dict[str, list[Any]] = {column: [] for column in SAMPLED}
    return {"user_id": case.user_id, "target": case.target, "recommendations": items[:20], "scores": scores, **empty}


def sampled_item(case: Case, hit: float, index: ItemIndex, chance: random.Random) -> str:
    """The target now and then, more often one of its genre, mostly a neighbour of the last film."""
    if chance.random() < hit:
        return case.target
    if chance.random() < 8 * hit:
        return neighbour(Case(case.user_id, (case.target,), case.target), index, chance)
    return neighbour(case, index, chance)


def reason_row(case: Case, items: Sequence[str], texts: Sequence[str], index: ItemIndex) -> dict[str, Any]:
    scored = [compute_score("gream", f"<answer>{index.text(item)}</answer>", index.text(case.target)) for item in items]
    ranked = sorted(set(items), key=lambda item: -items.count(item))
    return {
        "user_id": case.user_id,
        "target": case.target,
        "recommendations": ranked,
        "scores": [items.count(item) / len(items) for item in ranked],
        "item": list(items),
        "matched_levels": [one["matched_levels"] for one in scored],
        "reward": [one["score"] for one in scored],
        "status": [one["status"] for one in scored],
        "well_formed": [True] * len(items),
        "truncated": [False] * len(items),
        "tokens": [94] * len(items),
        "text": list(texts),
    }


def write(
    workspace: Workspace, model: str, mode: str, split: str, unseen: bool, rows: list[dict[str, Any]], index: ItemIndex
) -> None:
    frame = pl.DataFrame(rows, infer_schema_length=None)
    about = {"model": model, "mode": mode, "split": split, "exclude_seen": unseen, "made_up": True}
    figures = summarise(frame, mode, (1, 5, 10), len(index))
    write_evaluation(stem(workspace, model, mode, split, unseen), frame, {**about, **figures}, about)


def make_record(workspace: Workspace, label: str, seconds: float, number: int) -> None:
    record = {
        "stage": " ".join(label.split()[:2]) if label.startswith(("index", "corpus")) else label.split()[0],
        "label": label,
        "versions": {"python": "3.11.7", "gream_ext": "0.1.0", "llamafactory": "0.9.5", "verl": "0.9.1"},
        "settings": {"overrides": {"seed": 0}} if label == "sft" else {},
        "seconds": seconds,
        "finished": f"2026-01-01T00:{number:02d}:00+00:00",
        "outputs": {},
    }
    write_json(workspace.path("stages", f"{label.replace(' ', '-')}.json"), record)


if __name__ == "__main__":
    if len(sys.argv) != 2 or Path(sys.argv[1]).exists():
        sys.exit("usage: make_demo.py FOLDER, which must not exist yet")
    print(f"made-up workspace: {make_demo(sys.argv[1]).root}")
