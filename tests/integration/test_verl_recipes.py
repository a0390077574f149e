"""Our recipes against verl's real configuration: composed by Hydra, checked by verl, turned into its dataclasses."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("verl")

import polars as pl
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gream_ext.errors import GreamError
from gream_ext.plugins import relied_on
from gream_ext.plugins.recipes import recipes_folder
from gream_ext.plugins.verl import internals, machine, recipe

pytestmark = pytest.mark.integration

KWARGS = "reward.custom_reward_function.reward_kwargs"
ADDITIONS = {"anchored", "common", "cpu", "constrained", "direct", "distinct", "one_gpu", "reason", "steady"}
RECIPES = sorted({path.stem for path in (recipes_folder() / "gream").glob("*.yaml")} - ADDITIONS)


def write_prompts(path, *modes):
    rows = [
        {"prompt": [{"role": "user", "content": str(number)}], "extra_info": {"mode": mode, "index": number}}
        for number, mode in enumerate(modes)
    ]
    pl.DataFrame(rows).write_parquet(path)


@pytest.fixture
def composed(tmp_path):
    """Compose a recipe as verl's launcher does, with data that are there."""
    import verl

    (tmp_path / "rl").mkdir()
    (tmp_path / "sft").mkdir()
    for name in ("train", "valid"):
        write_prompts(tmp_path / "rl" / f"{name}.parquet", "direct", "reason", "reason")

    def compose_recipe(*names, **overrides):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            return compose(
                "ppo_trainer",
                [f"+gream=[{','.join(names)}]", f"++workspace={tmp_path}", *(f"{k}={v}" for k, v in overrides.items())],
                return_hydra_config=True,
            )

    yield compose_recipe
    GlobalHydra.instance().clear()


@pytest.mark.parametrize("cpu", [False, True])
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_composes(composed, name, cpu):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = composed(*([name, "cpu"] if cpu else [name]))
    recipe.check(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert rollout.name == ("transformers" if cpu else "sglang")
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert actor.loss_agg_mode == "seq-mean-token-mean"
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.optim.weight_decay) == (True, 0.001, 0.01)
    assert config.hydra.callbacks.gream._target_ == "gream_ext.plugins.verl.recipe.Check"
    assert need_reference_policy(config)
    assert not need_critic(config)
    OmegaConf.to_container(config.trainer, resolve=True)


@pytest.mark.parametrize("regime", [(), ("direct",), ("reason",)])
@pytest.mark.parametrize("name", RECIPES)
def test_recipe_composes_for_several_nodes(composed, name, regime):
    """Four machines of eight GPUs, SGLang on two GPUs each: verl's own checks, and its configuration classes."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    tensor_parallel = {"actor_rollout_ref.rollout.tensor_model_parallel_size": 2}
    config = composed(name, *regime, **{"trainer.nnodes": 4, "trainer.n_gpus_per_node": 8, **tensor_parallel})
    OmegaConf.resolve(config.ray_kwargs)
    recipe.check(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert (rollout.name, rollout.tensor_model_parallel_size, rollout.calculate_log_probs) == ("sglang", 2, True)
    assert config.data.get("mode") == (regime[0] if regime else None)
    assert config.algorithm.filter_groups.enable
    # A cluster's Ray is joined as it is: ray.init refuses sizes then.
    assert config.ray_kwargs.ray_init.num_cpus is None
    assert config.ray_kwargs.ray_init.get("num_gpus") is None


@pytest.mark.parametrize("name", RECIPES)
def test_one_gpu_needs_neither_flash_attention_nor_a_compiler_nor_a_memory_saver(composed, name):
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    config = composed(name, "one_gpu")
    recipe.check(config)
    validate_config(config, need_reference_policy(config), need_critic(config))
    model, rollout = config.actor_rollout_ref.model, omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert not machine._needs_flash_attention(config)
    # Otherwise the actor would give other log-probs than the rollout.
    assert model.override_config == {"attention_dropout": 0.0, "attn_implementation": "sdpa"}
    actor, ref = omega_conf_to_dataclass(config.actor_rollout_ref.actor), config.actor_rollout_ref.ref
    assert not any(part.use_torch_compile for part in (actor, actor.fsdp_config, ref, ref.fsdp_config))
    assert (rollout.name, rollout.free_cache_engine, rollout.agent.num_workers) == ("sglang", False, 2)
    assert rollout.engine_kwargs["sglang"] == {
        "enable_memory_saver": False,
        "attention_backend": "triton",
        "sampling_backend": "pytorch",
    }
    assert config.trainer.n_gpus_per_node * config.trainer.nnodes == 1


class Machine:
    """Verl's platform of a machine with so many GPUs."""

    device_name = "cuda"

    def __init__(self, gpus):
        self.gpus = gpus

    def is_available(self):
        return self.gpus > 0

    def device_count(self):
        return self.gpus


@pytest.mark.parametrize(
    ("recipes", "gpus", "installed", "complaint"),
    [
        (["srpo"], 0, True, r"no GPU: add the recipe cpu, '\+gream=\[srpo,cpu\]'"),
        (["srpo", "one_gpu"], 0, True, "no GPU"),
        (["srpo"], 1, True, r"n_gpus_per_node=8 asks for more than this machine has, 1: .*the recipe one_gpu"),
        (["srpo"], 8, False, "flash-attn is not installed: .*the recipe one_gpu, .*use_remove_padding=false"),
        (["srpo", "one_gpu"], 1, False, "sglang is not installed"),
        (["srpo"], 8, True, None),
        (["srpo", "one_gpu"], 1, True, None),
    ],
)
def test_what_the_machine_lacks_is_said_before_anything_starts(
    composed, monkeypatch, recipes, gpus, installed, complaint
):
    import verl.plugin.platform

    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(verl.plugin.platform, "get_platform", lambda: Machine(gpus))
    monkeypatch.setattr(machine, "find_spec", lambda name: installed or None)
    config = composed(*recipes)
    if complaint is None:
        machine.prepare(config)
    else:
        with pytest.raises(GreamError, match=complaint):
            machine.prepare(config)
    # Another machine's accelerators are not ours to count.
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    machine.prepare(config)


def test_several_machines_are_ones_that_ray_joins(composed, monkeypatch):
    import ray._private.utils
    import verl.plugin.platform

    monkeypatch.setattr(verl.plugin.platform, "get_platform", lambda: Machine(8))
    config = composed("srpo", **{"trainer.nnodes": 4})
    monkeypatch.setattr(machine, "find_spec", lambda name: True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray._private.utils, "read_ray_address", lambda temp_dir=None: None)
    with pytest.raises(GreamError, match=r"trainer\.nnodes=4 .*RAY_ADDRESS"):
        machine.prepare(config)
    monkeypatch.setattr(ray._private.utils, "read_ray_address", lambda temp_dir=None: "head:6379")
    machine.prepare(config)


def test_hyper_parameters_of_the_paper(composed):
    config = composed("srpo")
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert (rollout.n, rollout.temperature, rollout.top_p) == (10, 0.5, 1.0)
    assert (config.data.train_batch_size, actor.ppo_mini_batch_size, actor.optim.lr) == (256, 128, 4e-6)
    assert dict(config.algorithm.srpo) == {"k": 4, "success_threshold": 1.0, "bonus": True}


def test_ablations_of_table_3(composed):
    """GRPO with a binary reward, + residual reward, + bonus: each filtered by what its reward is made of."""
    found = {}
    for name in ("grpo", "grpo_residual", "srpo"):
        config = composed(name)
        reward = config.reward.custom_reward_function.reward_kwargs.binary
        found[name] = (config.algorithm.adv_estimator, reward, config.trainer.v1.sampler.sampler_kwargs.metric)
    assert found == {
        "grpo": ("grpo", True, "acc"),
        "grpo_residual": ("grpo", False, "matched_levels"),
        "srpo": ("srpo", False, "matched_levels"),
    }


@pytest.mark.parametrize("mode", ["direct", "reason"])
def test_regimes_of_figure_3(composed, tmp_path, mode):
    """A recipe of a mode has verl's dataset class give the prompts of that mode alone."""
    from verl.utils.dataset.rl_dataset import get_dataset_class

    config = composed("srpo", mode)
    recipe.check(config)
    data = config.data
    dataset = get_dataset_class(data)
    data.filter_overlong_prompts = False
    read = dataset(data_files=data.train_files, tokenizer=None, config=data)
    assert len(read) == {"direct": 1, "reason": 2}[mode]
    data.mode = "other"
    with pytest.raises(GreamError, match="must be direct or reason"):
        dataset(data_files=data.train_files, tokenizer=None, config=data)
    with pytest.raises(GreamError, match=r"data\.mode must be direct or reason, not 'other'"):
        recipe.check(config)
    data.mode = mode
    write_prompts(tmp_path / "rl" / "valid.parquet", {"direct": "reason", "reason": "direct"}[mode])
    with pytest.raises(GreamError, match=rf"data\.val_files: no prompt is of the mode {mode}; `gream corpus rl"):
        recipe.check(config)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"algorithm.use_kl_in_reward": "true"}, "use_kl_in_reward"),
        ({"+algorithm.srpo.kk": "3"}, "no option 'kk'"),
        ({f"+{KWARGS}.betta": "0.3"}, "no option 'betta'"),
        ({f"{KWARGS}.beta": "2"}, "beta must be"),
        ({f"{KWARGS}.beta": "abc"}, "reward_kwargs: beta must be .*, not 'abc'"),
        ({f"{KWARGS}.binary": "yes"}, "reward_kwargs: binary must be true or false, not 'yes'"),
        ({f"{KWARGS}.binary": "null"}, "reward_kwargs: binary must be true or false, not None"),
        ({f"+{KWARGS}.separator": "5"}, "reward_kwargs: separator must be a string .* or None"),
        ({f"+{KWARGS}.answer_end": "'<answer>'"}, "reward_kwargs: answer_begin and answer_end must differ"),
        ({KWARGS: "5"}, "reward_kwargs must be the reward's options by name, not 5"),
        ({f"{KWARGS}.levels": "0"}, "levels must be"),
        ({f"{KWARGS}.shortest": "0"}, "shortest must be"),
        ({"data.train_files": "nowhere.parquet"}, "nowhere.parquet is missing"),
        ({"trainer.v1.trainer_mode": "colocate_async"}, "trainer_mode=sync"),
        ({"trainer.v1.sampler.sampler_kwargs.max_refills": "abc"}, "max_refills of the group filter must be"),
        ({"trainer.v1.sampler.custom_sampler.name": "null"}, "custom_sampler.name must be GroupFilter, not None"),
        ({"trainer.v1.sampler.sampler_kwargs.enable": "true", "algorithm.filter_groups.enable": "false"},
         "set algorithm.filter_groups.enable=true"),
        ({"algorithm.filter_groups.metric": "acc"}, "metric must be matched_levels, .*binary=false, not acc"),
        ({f"{KWARGS}.binary": "true"}, "metric must be acc, .*binary=true, not matched_levels"),
        ({"algorithm.norm_adv_by_std_in_grpo": "false"}, "set algorithm.norm_adv_by_std_in_grpo=true"),
        ({"actor_rollout_ref.rollout.n": "1"}, r"actor_rollout_ref\.rollout\.n must be .* from 2 on .*, not 1"),
        ({"actor_rollout_ref.model.path": "null"}, r"actor_rollout_ref\.model\.path must be .*, not None"),
        ({"data.train_files": "null"}, r"data\.train_files must be a file, or a list of them, not None"),
        ({"data.train_files": "[]"}, r"data\.train_files must be a file, or a list of them, not \[\]"),
        ({"data.val_files": "[null]"}, r"data\.val_files must be a file, or a list of them, not \[None\]"),
        ({"reward.custom_reward_function": "null"}, "reward_function must be the path and the name .*, not None"),
        ({"reward.custom_reward_function.name": "score"}, "function.name must be compute_score, not 'score'"),
    ],
)  # fmt: skip
def test_recipe_refuses(composed, overrides, complaint):
    with pytest.raises(GreamError, match=complaint):
        recipe.check(composed("srpo", **overrides))


def test_recipe_accepts_identifiers_of_two_lengths(composed):
    recipe.check(composed("srpo", **{f"{KWARGS}.levels": 5, f"{KWARGS}.shortest": 4}))
    recipe.check(composed("srpo", **{f"{KWARGS}.shortest": 4}))


def test_two_recipes_that_contradict_each_other_are_refused(composed):
    """The binary reward of the one and the filter of the other."""
    with pytest.raises(GreamError, match="metric must be acc"):
        recipe.check(composed("grpo", "srpo"))
    # A filter that is off goes by nothing.
    recipe.check(composed("grpo", "srpo", **{"algorithm.filter_groups.enable": "false"}))


def test_the_recipe_cpu_comes_last(composed):
    with pytest.raises(GreamError, match=r"goes behind .*'\+gream=\[srpo,cpu\]'"):
        recipe.check(composed("cpu", "srpo"))
    # SGLang on a CPU is something else.
    recipe.check(composed("srpo", "cpu", **{"actor_rollout_ref.rollout.name": "sglang"}))


def test_the_recipe_cpu_behind_anothers_configuration(composed, tmp_path):
    """Its reward is another's, and nothing of ours is asked of it."""
    files = {f"data.{name}_files": tmp_path / "rl" / f"{name}.parquet" for name in ("train", "valid")}
    recipe.check(composed("cpu", **{key.replace("valid_", "val_"): path for key, path in files.items()}))


def test_recipe_refuses_a_workspace_without_the_model(composed, tmp_path):
    config = composed("srpo")
    (tmp_path / "sft").rmdir()
    with pytest.raises(GreamError, match=r"sft is missing .* `gream sft`"):
        recipe.check(config)
    config.actor_rollout_ref.model.path = "Qwen/Qwen3-4B"
    recipe.check(config)


def test_recipes_about_the_members_of_a_group(composed, tmp_path):
    pl.DataFrame({"item_id": [str(number) for number in range(20)]}).write_parquet(tmp_path / "item_index.parquet")
    config = composed("srpo", "cpu", "distinct", "anchored", "constrained")
    recipe.check(config)
    assert config.actor_rollout_ref.rollout.custom.anchored
    assert config.algorithm.srpo == {"k": 4, "success_threshold": 1.0, "bonus": True, "anchored": True,
                                     "anchor_weight": 1.0}  # fmt: skip
    steady = composed("srpo", "cpu", "distinct", "anchored", "steady")
    recipe.check(steady)
    actor, rollout = steady.actor_rollout_ref.actor, steady.actor_rollout_ref.rollout
    assert (actor.kl_loss_coef, actor.optim.lr, rollout.n, rollout.temperature) == (0.1, 5e-5, 4, 1.0)
    assert steady.data.train_batch_size == actor.ppo_mini_batch_size
    assert steady.trainer.v1.sampler.sampler_kwargs.max_refills == 0
    config.algorithm.srpo.anchored = False
    with pytest.raises(GreamError, match=r"algorithm\.srpo\.anchored must be true, as .*anchored is, not False"):
        recipe.check(config)
    with pytest.raises(GreamError, match=r"needs algorithm\.adv_estimator=srpo, which counts anchors apart"):
        recipe.check(composed("grpo_residual", "cpu", "anchored"))
    with pytest.raises(GreamError, match=r"rollout\.n must be .* from 3 on \(a group and its anchor\), not 2"):
        recipe.check(composed("srpo", "cpu", "anchored", **{"actor_rollout_ref.rollout.n": 2}))
    write_prompts(tmp_path / "rl" / "train.parquet", "reason")
    recipe.check(composed("srpo", "cpu", "anchored"))
    with pytest.raises(GreamError, match=r"data\.train_files: no prompt is of the mode direct; `gream corpus rl"):
        recipe.check(composed("srpo", "cpu", "distinct"))


def test_a_version_without_what_we_need_is_named(composed, monkeypatch, capsys):
    """verl 0.8 has no V1 trainer: one line that names the version, and no training."""
    monkeypatch.setattr(relied_on, "installed", lambda distribution: "0.8.0")
    monkeypatch.setitem(internals.NAMES, "filter", {"verl.trainer.ppo.v0": {"ReplayBuffer": ()}})
    with pytest.raises(GreamError, match=r"verl 0\.8\.0 has no verl\.trainer\.ppo\.v0"):
        recipe.check(composed("srpo"))
    assert "verl 0.8.0 is not a version that gream_ext supports" in capsys.readouterr().err


def test_a_check_that_breaks_ends_the_run(composed, monkeypatch):
    """Hydra turns a callback's exception into a warning and goes on."""
    monkeypatch.setattr(recipe, "check", lambda config: 1 / 0)
    with pytest.raises(SystemExit, match="gream: the recipe cannot be checked: ZeroDivisionError"):
        recipe.Check().on_run_start(composed("srpo"))


@pytest.mark.parametrize(
    ("environment", "recipes", "arguments", "sentence"),
    [
        ({"VERL_USE_EXTERNAL_PLUGINS": "none"}, "[srpo,cpu]", [], "gream: verl did not load gream_ext"),
        ({}, "[srpo,cpu]", ["workspace=nowhere"], "gream: nowhere/rl/train.parquet is missing"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "srpo", ["workspace=."], "gream: this machine has no GPU: add the recipe cpu"),
    ],
)
def test_launcher_ends_with_one_sentence(composed, tmp_path, environment, recipes, arguments, sentence):
    """What verl would hide, or wait for, ends the unmodified launcher before it starts Ray; and what a finished run
    left stays."""
    import os

    metrics = tmp_path / "rl" / "metrics.jsonl"
    metrics.write_text('{"step": 1, "data": {}}\n')
    done = subprocess.run(
        [sys.executable, "-m", "verl.trainer.main_ppo", f"+gream={recipes}", *arguments],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": "local", **environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(sentence)
    assert "Ray" not in done.stdout + done.stderr.replace("let Ray join", "").replace("ray actor", "")
    assert metrics.read_text() == '{"step": 1, "data": {}}\n'


def test_a_run_that_begins_anew_puts_the_metrics_of_another_aside(composed, tmp_path):
    metrics = tmp_path / "rl" / "metrics.jsonl"
    metrics.write_text('{"step": 1, "data": {"reward": 0.5}}\n')
    recipe.keep_metrics(composed("srpo", "cpu"))
    assert metrics.exists()
    assert (tmp_path / "rl" / "metrics.1.jsonl").read_text() == metrics.read_text()
