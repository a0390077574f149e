"""Table 3 and Figure 3 at laptop size: each arm of reinforcement from the same supervised model, with the same budget.

    python examples/ablation/run.py --base runs/quickstart                    # 5 arms × 3 seeds, then tables and a plot
    python examples/ablation/run.py --base 'runs/schedules/seed{seed}/mixed-curriculum-0' \\
        --alignment 'runs/schedules/seed{seed}/direct-only-0'                 # after examples/schedules/run.py

``--base`` is a workspace with a supervised model, ``--alignment`` one whose model has seen alignment data alone;
without it that model is trained, as long as the base's. With ``{seed}`` in its name each seed has a workspace of its
own; without, all seeds start from one. Each training has a workspace below ``--folder``; the bases get evaluations
and nothing else. Whatever is done is not done again, so an interrupted run goes on. At the end table.json, table.md
and ablation.png stand in the folder: means over the seeds, ± the standard error of that mean.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import METRICS, markdown, plot

from gream_ext.plugins import rl_metrics

CUTOFFS = (1, 5, 10)
RESULTS = {"rl", "srpo", "evaluation", "report.html", "report.json", "logs", "stages"}
"""What of a base is not that of its arms."""


@dataclass(frozen=True)
class Arm:
    """One row: which recipes train it, or which supervised model it is."""

    name: str
    recipes: tuple[str, ...] = ()
    supervised: str | None = None


TABLE_3 = (
    Arm("alignment only", supervised="sft_direct"),
    Arm("+ reasoning", supervised="base"),
    Arm("GRPO, binary reward", ("grpo", "cpu")),
    Arm("+ residual reward", ("grpo_residual", "cpu")),
    Arm("+ bonus (SRPO)", ("srpo", "cpu")),
)
FIGURE_3 = (
    Arm("direct", ("srpo", "direct", "cpu")),
    Arm("reason", ("srpo", "reason", "cpu")),
    Arm("both", ("srpo", "cpu")),
)


def gream(workspace: Path, *words: str) -> None:
    """One stage, skipped by itself where it is up to date."""
    print(f"[{workspace}] gream {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "gream_ext.cli", *words, "--workspace", str(workspace)], check=True)


def branch(base: Path, folder: Path, without: frozenset[str] = frozenset()) -> Path:
    """A workspace with the files of another, linked, and the records of the stages that made them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in base.iterdir():
        if path.name not in RESULTS | without and not path.name.startswith(".") and not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
    (folder / "stages").mkdir(exist_ok=True)
    for record in (base / "stages").glob("*.json"):
        if not record.name.startswith(("rl", "evaluate", "report", "baselines", *without)):
            target = folder / "stages" / record.name
            if not target.exists():
                shutil.copyfile(record, target)
    return folder


def base_of(seed: int, options: argparse.Namespace) -> Path:
    return Path(options.base.format(seed=seed))


def supervised(arm: Arm, seed: int, options: argparse.Namespace) -> Path:
    """The workspace of a model without reinforcement."""
    base = base_of(seed, options)
    if arm.supervised == "base":
        return base
    if options.alignment:
        return Path(options.alignment.format(seed=seed))
    folder = branch(base, options.folder / f"alignment-{base.name}", frozenset({"sft"}))
    settings = json.loads((base / "stages" / "sft.json").read_text())["settings"]
    steps = json.loads((base / "sft" / "trainer_state.json").read_text())["global_step"]
    overrides = {**settings["overrides"], "max_steps": steps}
    words = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    processes = [] if settings["processes"] is None else ["--processes", str(settings["processes"])]
    gream(folder, "sft", "--recipe", str(arm.supervised), "--precision", settings["precision"], *processes,
          "--overrides", *words)  # fmt: skip
    return folder


def reinforced(arm: Arm, seed: int, options: argparse.Namespace) -> Path:
    """The workspace of one arm and seed, trained on the seed's prompts of both modes."""
    base = base_of(seed, options)
    data = branch(base, options.folder / f"data-seed{seed}")
    gream(data, "corpus", "rl", "--prompts", str(options.prompts), "--reason-share", "0.5", "--valid-users", "256",
          "--system-prompt", "short", "--seed", str(seed))  # fmt: skip
    name = "-".join(recipe for recipe in arm.recipes if recipe != "cpu")
    folder = branch(base, options.folder / f"{name}-seed{seed}")
    (folder / "rl").mkdir(exist_ok=True)
    for split in ("train", "valid"):
        target = folder / "rl" / f"{split}.parquet"
        if not target.exists():
            target.symlink_to((data / "rl" / f"{split}.parquet").resolve())
    keys = {
        "trainer.total_training_steps": options.steps,
        "trainer.test_freq": -1,
        "trainer.val_before_train": False,
        "trainer.save_freq": 6,
        "trainer.n_gpus_per_node": options.workers,
        "actor_rollout_ref.actor.optim.lr": options.learning_rate,
    }
    words = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
    gream(folder, "rl", "--recipes", *arm.recipes, "--seed", str(seed), "--overrides", *words)
    return folder


def evaluate(folder: Path, model: str, options: argparse.Namespace) -> dict[str, float]:
    """The paper's averages on all test users, in direct and in reasoning mode."""
    found = {}
    for mode in ("direct", "reason"):
        gream(folder, "evaluate", "--model", model, "--mode", mode, "--split", "test", "--system-prompt", "short",
              "--max-new-tokens", "256", "--processes", str(options.workers))  # fmt: skip
        found[mode] = json.loads((folder / "evaluation" / model / f"{mode}-test.json").read_text())
    ranked = [found["direct"][f"{name}@{k}"] for name in ("recall", "ndcg") for k in CUTOFFS]
    return {
        "recall+ndcg": statistics.mean(ranked),
        "pass": statistics.mean(found["reason"][f"pass@{k}"] for k in CUTOFFS),
        "reward": found["reason"]["reward"],
    }


def training(folder: Path) -> dict[str, float]:
    """The share of groups that was kept, and of tokens that were made for nothing."""
    steps = rl_metrics.read(folder / "rl" / "metrics.jsonl")
    made = sum(step["gream/tokens/all"] for step in steps)
    return {
        "kept_rate": statistics.mean(step["gream/groups/kept_rate"] for step in steps),
        "tokens_wasted": sum(step["gream/tokens/wasted"] for step in steps) / made,
    }


def measure(arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """All figures of one arm and seed."""
    if arm.supervised:
        return evaluate(supervised(arm, seed, options), "sft", options)
    folder = reinforced(arm, seed, options)
    return {**evaluate(folder, "srpo", options), **training(folder)}


def summary(values: list[float]) -> dict[str, float | None]:
    """The mean and its standard error, which one value alone has not."""
    spread = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {"mean": statistics.mean(values), "error": spread}


def collect(arms: tuple[Arm, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Every arm's figures: means over the seeds."""
    found: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in arms}
    for seed in options.seeds:  # all arms of one seed first: an unfinished run still compares them
        for arm in arms:
            if arm.supervised and "{seed}" not in options.base and found[arm.name]:
                continue  # one model serves all seeds
            found[arm.name].append(kept(arm, seed, options))
    return {
        name: {metric: summary([run[metric] for run in runs]) for metric in METRICS if metric in runs[0]}
        for name, runs in found.items()
    }


def kept(arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """What `measure` gives, from a file of its own where these settings have been measured before."""
    names = ("base", "alignment", "steps", "learning_rate", "workers", "prompts")
    settings = {name: getattr(options, name) for name in names}
    name = "-".join(arm.recipes or arm.name.split())
    path = options.folder / "measured" / f"{name}-seed{seed}.json"
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if earlier.get("settings") != settings:
        earlier = {"settings": settings, "figures": measure(arm, seed, options)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write(earlier, path)
    figures: dict[str, float] = earlier["figures"]
    return figures


def write(value: Any, path: Path) -> None:
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(draft, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="a workspace whose model sft is trained; may hold {seed}")
    parser.add_argument("--alignment", help="one whose model sft has seen alignment data alone; may hold {seed}")
    parser.add_argument("--folder", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=12, help="of reinforcement, in each arm")
    parser.add_argument("--learning-rate", type=float, default=1.5e-4)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=4000)
    options = parser.parse_args()
    arms = tuple({arm.recipes or arm.name: arm for arm in (*FIGURE_3, *TABLE_3)}.values())
    found = collect(arms, options)
    tables = {
        "Table 3": {arm.name: found[arm.name] for arm in TABLE_3},
        "Figure 3": {arm.name: found[same.name] for arm in FIGURE_3 for same in arms if same.recipes == arm.recipes},
    }
    write(tables, options.folder / "table.json")
    text = "\n\n".join(markdown(title, table) for title, table in tables.items())
    (options.folder / "table.md").write_text(text + "\n")
    plot(tables, options.folder / "ablation.png")
    print(text)


if __name__ == "__main__":
    main()
