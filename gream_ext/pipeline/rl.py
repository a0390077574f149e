"""Stage ``rl``: reinforcement learning by Verl's own launcher, from the model after SFT; merged by Verl's own merger.

Verl checkpoints into ``rl/checkpoints/`` and goes on from the last one after an interruption. Its metrics stand in
``rl/metrics.jsonl``, one line a step, the merged Hugging Face model with its tokenizer in ``srpo/``. Where the files of
the workspace are is in the recipes, which have a key ``workspace``.
"""

import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.base_model.model_format import ModelFormat, read_format, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.errors import GreamError
from gream_ext.pipeline.launch import Progress, bar_progress, launch
from gream_ext.pipeline.record import identity, mark_trained, open_attempt, versions
from gream_ext.plugins import rl_metrics
from gream_ext.plugins.recipes import recipes_folder
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

LATEST = "latest_checkpointed_iteration.txt"
SCORE = re.compile(r"\bstep:\d+ - .*?\bcritic/score/mean:([-+.\deE]+)")
BARE = re.compile(r"[A-Za-z_/.][A-Za-z0-9_./-]*")
"""A string that Hydra's grammar takes for itself without quotes."""
SEEDS = ("data.seed", "actor_rollout_ref.rollout.seed")
OURS = (
    "workspace",
    "data.train_files",
    "data.val_files",
    "actor_rollout_ref.model.path",
    "trainer.default_local_dir",
    "trainer.resume_mode",
    "hydra.run.dir",
)
"""Keys that are not the user's to set here: they say which files of the workspace are meant."""


@dataclass(frozen=True)
class RlSettings:
    recipes: tuple[str, ...] = option(("srpo", "cpu"), help="Recipes for Verl, as in +gream=[srpo,cpu].")
    seed: int | None = option(None, help="Seed of the prompts' order and of the rollouts; by default the recipe's.")
    overrides: dict[str, Any] = option({}, help="Keys of Verl's configuration to change; a + before a key adds it.")


def run(workspace: Workspace, settings: RlSettings) -> None:
    """Train from ``sft/`` on the RL prompts; write ``rl/metrics.jsonl`` and the model folder ``srpo/``.

    Raises:
        GreamError: for a missing input or a key that is not the user's to set.
        LaunchError: if Verl or its merger fails.
    """
    for key in settings.overrides:
        if key.lstrip("+~") in OURS:
            raise GreamError(f"rl: {key!r} cannot be overridden: it belongs to the workspace")
    prompts = workspace.rl_train, workspace.rl_valid
    for path in (*prompts, workspace.model("sft")):
        if not path.exists():
            raise GreamError(f"{path} is missing: run `gream {'corpus rl' if path in prompts else 'sft'}` first")
    how = read_format(workspace.model("sft"))
    for path in prompts:
        check_prompts(path, how)
    folder = workspace.path("rl", "checkpoints")
    if not open_attempt(folder, identity(settings, _reads(workspace, settings))):
        words = training_command(workspace, settings)
        launch(words, name="rl", workspace=workspace, progress=read_progress, phase="starting Ray and Verl")
        mark_trained(folder)
    merge(workspace, folder, how)
    rl_metrics.join(_metrics(workspace))
    shutil.rmtree(folder)
    print(f"rl: the model is {workspace.model('srpo')}")


def check_prompts(path: Path, how: ModelFormat) -> None:
    """`GreamError` where the prompts ask in another way than the start model was trained with."""
    written = json.loads(pl.read_parquet_metadata(path).get("gream", "{}")).get("prompts")
    if written is None:
        return  # prompts of somebody else's
    asked = PromptSettings.from_json(written, str(path))
    for field in fields(PromptSettings):
        own, theirs = getattr(how.prompts, field.name), getattr(asked, field.name)
        if own != theirs:
            raise GreamError(
                f"{path} asks with {field.name} {theirs}, and the model was trained with {own}: run `gream corpus rl` "
                "again without options for it"
            )


def training_command(workspace: Workspace, settings: RlSettings) -> list[str]:
    """``python -m verl.trainer.main_ppo '+gream=[…]'`` with the workspace's files."""
    seeds = {} if settings.seed is None else dict.fromkeys(SEEDS, settings.seed)
    keys: dict[str, Any] = {
        **seeds,
        "workspace": str(workspace.root.resolve()),
        "trainer.resume_mode": "auto",
        "hydra.run.dir": str(workspace.path("rl", "checkpoints", "hydra").resolve()),
        **settings.overrides,
    }
    words = [f"{key}={hydra_word(value)}" for key, value in keys.items()]
    return [sys.executable, "-m", "verl.trainer.main_ppo", f"+gream=[{','.join(settings.recipes)}]", *words]


def hydra_word(value: Any) -> str:
    r"""A value in Hydra's override grammar.

    >>> print(hydra_word("a b's"), hydra_word([1, "x"]), hydra_word({"k": None}), hydra_word("1"), hydra_word(True))
    'a b\'s' [1,x] {k:null} '1' true
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{hydra_word(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(hydra_word, value)) + "]"
    if isinstance(value, str) and (
        not BARE.fullmatch(value) or value.lower() in ("true", "false", "null", "nan", "inf")
    ):
        # A backslash only escapes before a quote, or where it is the last character.
        escaped = re.sub(r"(\\*)(')", lambda found: found[1] * 2 + r"\'", value)
        ending = re.search(r"\\*$", escaped)
        return f"'{escaped}{ending[0] if ending else ''}'"
    return str(value)


def read_progress(line: str) -> Progress | None:
    """Read Verl's progress off its output: the bar "Training Progress", and the mean reward of each step."""
    found = SCORE.search(line)
    return Progress(note=f"reward {float(found[1]):.3f}") if found else bar_progress(line, "Training Progress")


def merge(workspace: Workspace, folder: Path, how: ModelFormat) -> None:
    """Make the Hugging Face model out of the last checkpoint by Verl's merger; it is asked as its start model was."""
    try:
        actor = folder / f"global_step_{int((folder / LATEST).read_text())}" / "actor"
    except (OSError, ValueError):
        raise GreamError(f"{folder} has no checkpoint: set trainer.save_freq to a number above 0") from None
    with whole(workspace.model("srpo")) as draft:
        places = ["--local_dir", str(actor.resolve()), "--target_dir", str(draft.resolve())]
        merger = [sys.executable, "-m", "verl.model_merger", "merge", "--backend", "fsdp", *places]
        launch(merger, name="rl-merge", workspace=workspace)
        write_format(draft, replace(how, versions=versions()))


def _metrics(workspace: Workspace) -> Path:
    return workspace.path("rl", "metrics.jsonl")


def _reads(workspace: Workspace, settings: RlSettings) -> Sequence[Path]:
    recipes = [recipes_folder() / "gream" / f"{name}.yaml" for name in ("common", *settings.recipes)]
    shipped = [recipe for recipe in recipes if recipe.exists()]
    return workspace.rl_train, workspace.rl_valid, workspace.model("sft"), *shipped


def _writes(workspace: Workspace, settings: RlSettings) -> Sequence[Path]:
    return workspace.model("srpo"), _metrics(workspace)


STAGE = Stage(name="rl", settings=RlSettings, run=run, reads=_reads, writes=_writes)
