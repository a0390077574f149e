"""Table 4 at laptop size: one model per training schedule and seed, all with the same number of optimizer steps.

    python examples/schedules/run.py                      # everything: 6 schedules × 3 seeds, then the table
    python examples/schedules/run.py --steps 600 --seeds 0

Each training has a workspace of its own below --folder. Whatever is done is not done again, so an interrupted run goes
on. At the end table.json and table.md stand in the folder: means over the seeds, ± the standard error of that mean.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROWS = 32
"""Rows of an optimizer step."""
EPOCHS = 3
MIXTURE = {"continuation": 2.5, "next": 0.03, "intent_to_item": 0.02, "next_from_titles": 0.01, "next_title": 0.01,
           "query_to_item": 0.5, "title_to_item": 0.5, "text_to_item": 0.5, "item_to_title": 0.5, "item_to_text": 0.5,
           "item_to_categories": 0.5, "preference_summary": 1.0, "description_to_item": 1.0}  # fmt: skip
"""The quickstart's, every task by name."""
METRICS = {"direct": ("recall@5", "recall@10", "ndcg@5", "ndcg@10"), "reason": ("pass@1", "pass@5", "pass@10",
           "well_formed", "reward")}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One training; its sizes are shares of the budget."""

    recipe: str
    align: float = 0.0
    reason: float = 0.0
    replay: float = 0.0
    """How many alignment steps it replays; ``align`` says from how many."""

    @property
    def steps(self) -> float:
        return (self.replay or self.align) + self.reason


SCHEDULES = {
    "direct only": [Part("sft_direct", align=1.0)],
    "reason only": [Part("sft_reason", reason=1.0)],
    "mixed, curriculum": [Part("sft_curriculum", align=0.7, reason=0.3)],
    "mixed, uniform": [Part("sft_uniform", align=0.7, reason=0.3)],
    "direct then reason": [Part("sft_direct", align=0.7), Part("sft_direct_reason", reason=0.3)],
    "direct then reason, replay": [
        Part("sft_direct", align=0.6),
        Part("sft_direct_reason_replay", align=0.6, reason=0.3, replay=0.1),
    ],
}


def gream(workspace: Path, *words: str) -> None:
    """One stage, skipped by itself where it is up to date."""
    print(f"[{workspace}] gream {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "gream_ext.cli", *words, "--workspace", str(workspace)], check=True)


def mixture(factor: float) -> list[str]:
    return [f"{name}={share * factor:.6f}" for name, share in MIXTURE.items()]


def make_data(folder: Path, seed: str, source: str) -> int:
    """Interactions, items, identifiers and base model, the same for all schedules; the mixture's rows an epoch."""
    gream(folder, "prepare", "--source", "movielens", "--path", source)
    gream(folder, "embed", "--encoder", "minilm")
    gream(folder, "index", "build", "--codebook-size", "32", "--restarts", "5", "--seed", seed)
    gream(folder, "corpus", "align", "--epochs", "1", "--mixture", *mixture(1.0))
    gream(folder, "corpus", "reason", "--epochs", "1", "--rows", "5000", "--system-prompt", "short", "--most-kept", "8")
    gream(folder, "base-model", "--layers", "2", "--hidden-size", "128", "--heads", "4", "--kv-heads", "4",
          "--vocabulary-size", "2048", "--attention-dropout", "0.1", "--seed", seed)  # fmt: skip
    with (folder / "corpus" / "align.jsonl").open("rb") as file:
        return sum(1 for _ in file)


def train(
    workspace: Path, part: Part, data: Path, base: Path, full: int, options: argparse.Namespace, seed: str
) -> None:
    """One training in a workspace that has the items of ``data`` and starts from the model ``base``."""
    batches = options.steps / EPOCHS
    if not (workspace / "base_model").exists():
        shutil.rmtree(workspace, ignore_errors=True)
        workspace.mkdir(parents=True)
        for file in data.iterdir():
            if file.is_file():
                shutil.copy2(file, workspace)
        shutil.copytree(base, workspace / "base_model.part")
        (workspace / "base_model.part").rename(workspace / "base_model")
    # A few rows less than whole batches: each task rounds, and the last batch is filled up.
    align, reason = (max(1, round(share * batches) * ROWS - 8) for share in (part.align, part.reason))
    gream(workspace, "corpus", "align", "--epochs", str(EPOCHS), "--canonical-share", "0.8", "--seed", seed,
          "--mixture", *mixture(align / full if part.align else 1e-3))  # fmt: skip
    gream(workspace, "corpus", "reason", "--epochs", str(EPOCHS), "--rows", str(reason), "--system-prompt", "short",
          "--most-kept", "8", "--seed", seed)  # fmt: skip
    accumulated = ROWS // 8 // options.processes
    keys = ["per_device_train_batch_size=8", f"gradient_accumulation_steps={accumulated}", "learning_rate=0.002",
            "weight_decay=0.1", "train_on_prompt=true", "save_steps=100"]  # fmt: skip
    if part.replay:
        keys.append(f"gream_align_share={part.replay / part.align:.6f}")
    gream(workspace, "sft", "--recipe", part.recipe, "--processes", str(options.processes), "--precision", "auto",
          "--seed", str(42 + int(seed)), "--overrides", *keys)  # fmt: skip


def run(schedule: str, seed: str, data: Path, full: int, options: argparse.Namespace) -> dict[str, float]:
    """Train one schedule and evaluate it on all test users, once, in both modes."""
    base, workspace = data / "base_model", data
    trained = 0
    for number, part in enumerate(SCHEDULES[schedule]):
        workspace = data.parent / f"{schedule.replace(',', '').replace(' ', '-')}-{number}"
        train(workspace, part, data, base, full, options, seed)
        base = workspace / "sft"
        trained += json.loads((base / "curriculum.json").read_text())["steps"]
    results: dict[str, float] = {"steps": trained}
    for mode, metrics in METRICS.items():
        gream(workspace, "evaluate", "--model", "sft", "--mode", mode, "--split", "test", "--system-prompt", "short",
              "--max-new-tokens", "256", "--processes", str(options.processes))  # fmt: skip
        found = json.loads((workspace / "evaluation" / "sft" / f"{mode}-test.json").read_text())
        results |= {metric: found[metric] for metric in metrics}
    return results


def spread(values: list[float]) -> tuple[float, float | None]:
    """Mean and its standard error; without one for a single seed."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.mean(values), error


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Markdown, one line a schedule."""
    names = ["steps", *(metric for metrics in METRICS.values() for metric in metrics)]
    lines = [f"| schedule | seeds | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for schedule, seeds in results.items():
        cells = []
        for name in names:
            mean, error = spread([found[name] for found in seeds.values()])
            shown = f"{mean:.0f}" if name == "steps" else f"{mean:.4f}"
            cells.append(shown if error is None or name == "steps" else f"{shown} ± {error:.4f}")
        lines.append(f"| {schedule} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/schedules"))
    parser.add_argument("--source", default=".cache/recbole-1.2.1-py3-none-any.whl", help="wheel with MovieLens-100K")
    parser.add_argument("--steps", type=int, default=300, help="optimizer steps of each schedule, a multiple of 30")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES), metavar="SCHEDULE")
    parser.add_argument("--processes", type=int, default=2, choices=(1, 2, 4))
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {schedule: {} for schedule in options.schedules}
    for seed in options.seeds:
        data = options.folder / f"seed{seed}" / "data"
        full = make_data(data, seed, options.source)
        for schedule in options.schedules:
            results[schedule][seed] = run(schedule, seed, data, full, options)
            (options.folder / "table.json").write_text(json.dumps(results, indent=2) + "\n")
            told = table({name: seeds for name, seeds in results.items() if seeds})
            (options.folder / "table.md").write_text(told)
            print(told, flush=True)


if __name__ == "__main__":
    main()
