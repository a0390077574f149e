"""What our recipes have Hydra do in verl's launcher before it starts anything.

A recipe whose registrations did not take place must end in its first second with one sentence,
and not train with something else: verl hides a plug-in that fails. Hydra in turn turns exceptions
of a callback into warnings, so this leaves the process with `SystemExit`.
"""

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from gream_ext import rewards
from gream_ext.errors import GreamError
from gream_ext.plugins import verl as plugin
from gream_ext.plugins.demand import demand, is_whole
from gream_ext.plugins.rl_metrics import keep_earlier
from gream_ext.plugins.verl import estimator, internals, machine, rollout_options
from gream_ext.plugins.verl.filter_options import read_options

REWARD = "reward.custom_reward_function"


class Check(Callback):
    """``hydra.callbacks.gream`` of every recipe; ``cpu`` says whether the recipe cpu came last, see `check`."""

    def __init__(self, cpu: bool = False) -> None:
        self.cpu = cpu

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Before Hydra makes a folder for the run."""
        try:
            # verl hands this to Ray with interpolations as they stand.
            OmegaConf.resolve(config.ray_kwargs)
            check(config)
            machine.prepare(config)
            keep_metrics(config)
        except GreamError as error:
            raise SystemExit(f"gream: {error}") from None
        except Exception as error:  # whatever it is, the run must not go on unchecked
            raise SystemExit(f"gream: the recipe cannot be checked: {type(error).__name__}: {error}") from error


def check(config: DictConfig) -> None:
    """Raise `GreamError` when something that the recipe needs is missing or contradicts it."""
    if unsupported := internals.unsupported():
        print(f"gream: warning: {unsupported}", file=sys.stderr)
        for part in ("estimator", "filter"):
            internals.check(part)
    for name, failure in plugin.failures.items():
        raise GreamError(f"registering the {name} in verl {internals.version()} failed: {failure}")
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    if "srpo" not in ADV_ESTIMATOR_REGISTRY:
        raise GreamError(f"verl did not load gream_ext: {internals.cure_when_not_loaded()}")
    if config.trainer.device == "cpu" and OmegaConf.select(config, "hydra.callbacks.gream.cpu") is False:
        raise GreamError("the recipe cpu goes behind the one that it changes: '+gream=[srpo,cpu]'")
    options = rollout_options.check(config)
    if options.anchored and config.algorithm.adv_estimator != "srpo":
        raise GreamError(
            "the recipe anchored needs algorithm.adv_estimator=srpo, which counts anchors apart; for the advantage of "
            "GRPO set algorithm.srpo.bonus=false"
        )
    if config.algorithm.adv_estimator == "srpo":
        anchored = estimator.options(config.algorithm)["anchored"]
        demand("algorithm.srpo.anchored", anchored, anchored == options.anchored,
               f"{str(options.anchored).lower()}, as {rollout_options.KEY}.anchored is")  # fmt: skip
    binary = _check_reward(config)
    filters = _check_filter(config, binary)
    n = config.actor_rollout_ref.rollout.n
    if options.anchored:
        demand(
            "actor_rollout_ref.rollout.n", n, is_whole(n) and n > 2, "a whole number from 3 on (a group and its anchor)"
        )
    elif filters or config.algorithm.adv_estimator == "srpo":
        demand("actor_rollout_ref.rollout.n", n, is_whole(n) and n > 1, "a whole number from 2 on (a group)")
    _check_files(config)
    if options.distinct is not None:
        _check_mode("data.train_files", _files(config.data.train_files), "direct")


def _check_filter(config: DictConfig, binary: bool | None) -> bool:
    """Whether our filter is there and at work; ``binary`` is the kind of our reward, None for another's."""
    sampler = "trainer.v1.sampler.custom_sampler"
    path, name = (OmegaConf.select(config, f"{sampler}.{key}") for key in ("path", "name"))
    if path != "pkg://gream_ext.plugins.verl.filter":
        return False
    # Without a name verl takes its own filter.
    demand(f"{sampler}.name", name, name == "GroupFilter", "GroupFilter")
    if not config.trainer.use_v1 or config.trainer.v1.trainer_mode != "sync":
        raise GreamError("our group filter works in verl's synchronous trainer: set trainer.v1.trainer_mode=sync")
    options = read_options(config.trainer.v1.sampler.sampler_kwargs)
    if options.enable and not OmegaConf.select(config, "algorithm.filter_groups.enable"):
        raise GreamError("our group filter asks for single prompts: set algorithm.filter_groups.enable=true")
    wanted = {None: options.metric, True: "acc", False: "matched_levels"}[binary]
    if options.enable and options.metric != wanted:
        raise GreamError(
            f"algorithm.filter_groups.metric must be {wanted}, of which the reward is made with {REWARD}.reward_kwargs."
            f"binary={str(binary).lower()}, not {options.metric}"
        )
    return options.enable


def _check_files(config: DictConfig) -> None:
    for name in ("data.train_files", "data.val_files"):
        given = OmegaConf.select(config, name)
        files = _files(given)
        right = isinstance(files, Sequence) and len(files) > 0 and all(isinstance(file, str) for file in files)
        demand(name, given, right, "a file, or a list of them")
        for file in files:
            if "://" not in file and not Path(file).expanduser().exists():
                raise GreamError(f"{file} is missing ({name}): run `gream corpus rl`, or set workspace=FOLDER")
        if config.data.custom_cls.get("path") == "pkg://gream_ext.plugins.verl.dataset":
            _check_mode(name, files, config.data.get("mode"))
    model, workspace = config.actor_rollout_ref.model.path, config.get("workspace")
    demand("actor_rollout_ref.model.path", model, isinstance(model, str) and model != "", "a folder or a name")
    # Elsewhere it may be a name that Hugging Face's hub knows.
    if workspace is not None and Path(model).is_relative_to(workspace) and not Path(model).exists():
        raise GreamError(f"{model} is missing (actor_rollout_ref.model.path): run `gream sft`, or set workspace=FOLDER")


def _files(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


def _check_mode(name: str, files: Sequence[str], mode: Any) -> None:
    import polars as pl

    demand("data.mode", mode, mode in ("direct", "reason"), "direct or reason")
    for file in files:
        if "://" in file or Path(file).suffix != ".parquet":
            return
        found = pl.scan_parquet(Path(file).expanduser()).select(pl.col("extra_info").struct.field("mode") == mode)
        if found.collect()["mode"].any():
            return
    raise GreamError(f"{name}: no prompt is of the mode {mode}; `gream corpus rl --reason-share 0.5` writes both modes")


def keep_metrics(config: DictConfig) -> None:
    """Put the metrics of an interrupted run aside: verl's file logger begins its file anew."""
    path = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH")
    if path is None or "file" not in config.trainer.logger:
        return
    resuming = config.trainer.resume_mode != "disable" and (
        config.trainer.resume_mode == "resume_path"
        or Path(config.trainer.default_local_dir, "latest_checkpointed_iteration.txt").exists()
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    keep_earlier(Path(path), resuming)


def _check_reward(config: DictConfig) -> bool | None:
    """Whether our reward is the binary one; None when the reward is another's."""
    custom = config.reward.custom_reward_function
    demand(REWARD, custom, isinstance(custom, Mapping), "the path and the name of a function")
    if custom.get("path") != "pkg://gream_ext.rewards":
        return None
    demand(f"{REWARD}.name", custom.get("name"), custom.get("name") == "compute_score", "compute_score")
    options = inspect.signature(rewards.compute_score).parameters
    kwargs = custom.get("reward_kwargs") or OmegaConf.create({})
    demand(f"{REWARD}.reward_kwargs", kwargs, isinstance(kwargs, Mapping), "the reward's options by name")
    read: Any = OmegaConf.to_container(kwargs, resolve=True)
    given = {str(name): value for name, value in read.items()}
    for name in given:
        if name not in options or options[name].kind is not inspect.Parameter.KEYWORD_ONLY:
            raise GreamError(f"{REWARD}.reward_kwargs: the reward has no option {name!r}")
    try:
        rewards.compute_score("", "", "", {}, **given)
    except ValueError as error:
        raise GreamError(f"{REWARD}.reward_kwargs: {error}") from None
    return bool(given.get("binary"))
