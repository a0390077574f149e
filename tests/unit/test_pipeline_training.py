"""The stages that launch a framework: their command lines, what they refuse, what they keep for the next attempt."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.base_model.model_format import ModelFormat
from gream_ext.corpus.files import write_dataset_info
from gream_ext.errors import GreamError
from gream_ext.pipeline import rl, sft, sft_model
from gream_ext.pipeline.launch import Progress
from gream_ext.pipeline.record import identity, mark_trained, open_attempt
from gream_ext.pipeline.rl import RlSettings, hydra_word
from gream_ext.pipeline.sft import SftSettings, multiplies_bfloat16, training_command, yaml_word
from gream_ext.plugins.recipes import find_recipe
from gream_ext.plugins.rl_metrics import join
from gream_ext.workspace import Workspace


def keys_of(words: list[str]) -> dict[str, Any]:
    return {key: yaml.safe_load(value) for key, _, value in (word.partition("=") for word in words)}


def test_sft_runs_the_unmodified_launcher_with_the_files_of_the_workspace(tmp_path: Path) -> None:
    settings = SftSettings(overrides={"num_train_epochs": 2.5, "deepspeed": None, "lora_target": "q_proj,v_proj"})
    words, environment = training_command(Workspace(tmp_path), settings, tmp_path / "r.yaml")
    assert words[1:5] == ["-m", "llamafactory.cli", "train", str(tmp_path / "r.yaml")]
    assert environment == {}
    assert keys_of(words[5:]) == {
        "num_train_epochs": 2.5,
        "deepspeed": None,
        "lora_target": "q_proj,v_proj",
        "model_name_or_path": str(tmp_path / "base_model"),
        "dataset_dir": str(tmp_path / "corpus"),
        "output_dir": str(tmp_path / "sft.training"),
        "overwrite_output_dir": False,
    }


def test_several_processes_also_where_a_path_has_a_blank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llamafactory-cli splits its torchrun command at blanks; there torchrun gets the words from us."""
    monkeypatch.setattr("sys.executable", "/usr/bin/python3.11")  # wherever the tests themselves run
    plain, environment = training_command(Workspace(tmp_path / "w"), SftSettings(processes=2), tmp_path / "r.yaml")
    assert plain[2] == "llamafactory.cli"
    assert environment["FORCE_TORCHRUN"] == "1" and environment["NPROC_PER_NODE"] == "2"
    words, environment = training_command(Workspace(tmp_path / "w w"), SftSettings(processes=2), tmp_path / "r.yaml")
    assert "torch.distributed.run llama" not in shlex.join(words)
    assert words[1:3] == ["-m", "torch.distributed.run"] and "llamafactory.launcher" in words and environment == {}
    assert keys_of([word for word in words if "=" in word])["output_dir"] == str(tmp_path / "w w" / "sft.training")


def test_the_seed_reaches_both_launchers_and_yields_to_an_override(tmp_path: Path) -> None:
    words, _ = training_command(Workspace(tmp_path), SftSettings(seed=5), tmp_path / "r.yaml")
    assert keys_of(words[5:])["seed"] == 5
    words, _ = training_command(Workspace(tmp_path), SftSettings(seed=5, overrides={"seed": 6}), tmp_path / "r.yaml")
    assert keys_of(words[5:])["seed"] == 6
    keys = keys_of(rl.training_command(Workspace(tmp_path), RlSettings(seed=5, overrides={"data.seed": 6}))[4:])
    assert (keys["data.seed"], keys["actor_rollout_ref.rollout.seed"]) == (6, 5)
    assert not {"data.seed", "actor_rollout_ref.rollout.seed"} & set(
        rl.training_command(Workspace(tmp_path), RlSettings())
    )


def test_precision_auto_asks_the_processor_and_yields_to_an_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bf16(**settings: Any) -> Any:
        words, _ = training_command(Workspace(tmp_path), SftSettings(**settings), tmp_path / "r.yaml")
        return keys_of(words[5:]).get("bf16")

    for answer in (True, False):
        monkeypatch.setattr(sft, "multiplies_bfloat16", lambda answer=answer: answer)
        assert bf16() is None
        assert bf16(precision="auto") is answer
        assert bf16(precision="auto", overrides={"bf16": not answer}) is not answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2\nbugs: bf16\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", True),
        ("", False),
    ],
)
def test_which_processors_multiply_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, answer: bool
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "cpuinfo").write_text(text)
    assert multiplies_bfloat16(tmp_path / "cpuinfo") is answer
    assert not multiplies_bfloat16(tmp_path / "none")


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text() | FINITE))
def test_values_survive_llamafactorys_command_line(value: Any) -> None:
    from omegaconf import OmegaConf

    read = OmegaConf.to_container(OmegaConf.from_cli([f"key={yaml_word(value)}"]), resolve=False)
    assert isinstance(read, dict) and read["key"] == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"])),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=4,
    )
)
def test_values_survive_hydras_command_line(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    def text(parsed: Any) -> Any:
        return [text(inner) for inner in parsed] if isinstance(parsed, list) else getattr(parsed, "text", parsed)

    override = OverridesParser.create().parse_overrides([f"key={hydra_word(value)}"])[0]
    assert text(override.value()) == value


def test_rl_runs_the_unmodified_launcher(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "a workspace")
    words = rl.training_command(workspace, RlSettings(overrides={"trainer.total_training_steps": 2}))
    assert words[1:4] == ["-m", "verl.trainer.main_ppo", "+gream=[srpo,cpu]"]
    assert f"workspace='{workspace.root}'" in words
    assert "trainer.resume_mode=auto" in words and words[-1] == "trainer.total_training_steps=2"


@pytest.mark.parametrize("key", ["workspace", "+data.train_files", "actor_rollout_ref.model.path"])
def test_rl_refuses_keys_that_are_the_workspaces(workspace: Workspace, key: str) -> None:
    with pytest.raises(GreamError, match="cannot be overridden"):
        rl.run(workspace, RlSettings(overrides={key: "x"}))


def test_sft_refuses_keys_that_are_the_workspaces(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("{}")
    with pytest.raises(GreamError, match="'output_dir' cannot be overridden"):
        sft.run(workspace, SftSettings(recipe=str(tmp_path / "r.yaml"), overrides={"output_dir": "x"}))
    with pytest.raises(GreamError, match="run `gream base-model` first"):
        sft.run(workspace, SftSettings(recipe=str(tmp_path / "r.yaml")))
    with pytest.raises(GreamError, match="run `gream corpus rl` first"):
        rl.run(workspace, RlSettings())


def test_recipes_are_found_by_path_or_name(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("{}")
    assert find_recipe(str(mine)) == mine.resolve()
    assert find_recipe("gream/srpo").name == find_recipe("recipes/gream/srpo.yaml").name == "srpo.yaml"
    with pytest.raises(GreamError, match="there is no recipe nothing"):
        find_recipe("nothing")


def test_progress_of_both_frameworks() -> None:
    loss = "{'loss': '4.5012', 'grad_norm': '1.2', 'learning_rate': '1e-05', 'epoch': '0.1'}"
    assert sft.read_progress(loss) == Progress(note="loss 4.501")
    assert sft.read_progress("{'loss': 4.5012, 'epoch': 0.1}") == Progress(note="loss 4.501")
    assert sft.read_progress("  2%|▏    | 3/150 [00:05<04:01]") == Progress(3, 150)
    validated = "validation, step 4 of 12: recall@10 0.1250"
    assert sft.read_progress(validated) == Progress(said=f"sft: {validated}")
    assert sft.read_progress("Running tokenizer on dataset: 10%|█ | 3/30 [00:05<04:01]") is None
    bar = "(TaskRunnerV1 pid=7) Training Progress:  50%|█████     | 1/2 [00:07<00:07]"
    assert rl.read_progress(bar) == Progress(1, 2)
    step = "(TaskRunnerV1 pid=7) step:2 - gream/kept:0.5 - critic/score/mean:0.123456 - perf/x:1"
    assert rl.read_progress(step) == Progress(note="reward 0.123")
    assert rl.read_progress("(TaskRunnerV1 pid=7) hello") is None


def test_an_attempt_belongs_to_its_settings_and_inputs(tmp_path: Path) -> None:
    data, folder = tmp_path / "data", tmp_path / "training"
    data.write_text("a")
    assert not open_attempt(folder, identity(SftSettings(), [data]))
    (folder / "checkpoint-5").mkdir()
    assert not open_attempt(folder, identity(SftSettings(), [data]))
    assert (folder / "checkpoint-5").exists(), "the same training goes on"
    mark_trained(folder)
    assert open_attempt(folder, identity(SftSettings(), [data]))
    data.write_text("b")
    assert not open_attempt(folder, identity(SftSettings(), [data]))
    assert not (folder / "checkpoint-5").exists(), "a checkpoint of other data is never resumed"
    assert not open_attempt(folder, identity(SftSettings(processes=2), [data]))


@pytest.mark.parametrize("text", [b"", b"- a", b"a: [", b"\xe9"])
def test_a_recipe_that_is_none(tmp_path: Path, text: bytes) -> None:
    recipe = tmp_path / "my.yaml"
    recipe.write_bytes(text)
    with pytest.raises(GreamError, match=r"recipe .*my\.yaml (cannot be read|must be a mapping)"):
        sft.STAGE.reads(Workspace(tmp_path), sft.SftSettings(recipe=str(recipe)))


def test_half_written_checkpoints_are_dropped(tmp_path: Path) -> None:
    for name in (
        "checkpoint-5/trainer_state.json",
        "checkpoint-10/model.safetensors",
        "model.safetensors",
        "log.jsonl",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    sft_model.drop_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-5", "log.jsonl"]


def test_the_training_folder_becomes_the_model_in_one_step(tmp_path: Path) -> None:
    folder, model = tmp_path / "sft.training", tmp_path / "sft"
    described: list[Path] = []
    open_attempt(folder, {"settings": 1})
    mark_trained(folder)
    with pytest.raises(GreamError, match="has no model"):
        sft_model.finish(folder, model, described.append)
    for name in ("model.safetensors", "trainer_log.jsonl", "checkpoint-5/model.safetensors", "datasets_cache/x"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("new")
    model.mkdir()
    (model / "old").write_text("")

    def fail(_: Path) -> None:
        raise GreamError("no chat template")

    with pytest.raises(GreamError, match="no chat template"):
        sft_model.finish(folder, model, fail)
    assert open_attempt(folder, {"settings": 1}), "what was trained is not trained again"
    sft_model.finish(folder, model, described.append)
    assert described == [folder], "before it takes its place"
    assert sorted(path.name for path in model.iterdir()) == ["model.safetensors", "trainer_log.jsonl"]
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


def test_the_last_line_says_how_the_training_went(tmp_path: Path) -> None:
    assert sft_model.summary(tmp_path) == f"sft: 0 steps; the model is {tmp_path}"
    history = [{"step": 5, "loss": 3.21987}, {"step": 10, "loss": 2.5}, {"step": 10, "train_loss": 2.9}]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 2700, "log_history": history}))
    assert sft_model.summary(tmp_path) == f"sft: 2,700 steps; loss 2.500; the model is {tmp_path}"
    for step, recall, ndcg in ((9, 0.1, 0.05), (6, 0.2, 0.06), (3, 0.2, 0.07)):
        history.insert(0, {"step": step, "gream/recall_at_10": recall, "gream/ndcg_at_10": ndcg})
    (tmp_path / "trainer_state.json").write_text(json.dumps({"global_step": 2700, "log_history": history}))
    best = "best on validation users: recall@10 0.2000, ndcg@10 0.0700, after step 3"
    assert sft_model.summary(tmp_path) == f"sft: 2,700 steps; loss 2.500; {best}; the model is {tmp_path}"


def test_metrics_of_all_attempts_become_one_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    (tmp_path / "metrics.earlier.jsonl").write_text('{"step": 1, "data": {"a": 1}}\n{"step": 2, "data": {"a": 2}}\n')
    path.write_text('{"step": 2, "data": {"a": 3}}\n{"step": 3, "data": {"a": 4}}\n{"step": 4, "da')
    join(path)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"step": step, "data": {"a": value}} for step, value in ((1, 1), (2, 3), (3, 4))]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_no_checkpoint_to_merge_is_said(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(GreamError, match=r"trainer\.save_freq"):
        rl.merge(workspace, tmp_path, ModelFormat())


def test_only_what_the_recipe_trains_on_makes_a_training_stale(workspace: Workspace, tmp_path: Path) -> None:
    """A data card, answers that were rejected, a draft of a killed writer: no training file saw them."""
    recipe = tmp_path / "my recipe.yaml"
    recipe.write_text("dataset: align,reason\neval_dataset: held_out\n")
    settings = SftSettings(recipe=str(recipe))
    workspace.model("base_model").mkdir(parents=True)
    (workspace.model("base_model") / "config.json").write_text("{}")
    write_dataset_info(workspace)
    for name in ("align", "reason", "held_out"):
        (workspace.corpus / f"{name}.jsonl").write_text("{}\n")
    folder = workspace.path("sft.training")

    def resumes(chosen: SftSettings = settings) -> bool:
        open_attempt(folder, identity(chosen, sft.STAGE.reads(workspace, chosen)))
        kept = (folder / "checkpoint-8").exists()
        (folder / "checkpoint-8").mkdir(exist_ok=True)
        return kept

    resumes()
    for name in ("card.json", "rejected.jsonl", "other.jsonl", "align.meta.json"):
        (workspace.corpus / name).write_text("x")
    (workspace.corpus / ".align.jsonl.ab12.part").mkdir()
    (workspace.corpus / ".align.jsonl.ab12.part" / "align.jsonl").write_text("half")
    (workspace.model("base_model") / ".x.ab12.part").mkdir()
    (workspace.model("base_model") / ".x.ab12.part" / "x").write_text("half")
    assert resumes()
    for name in ("align", "reason", "held_out"):
        (workspace.corpus / f"{name}.jsonl").write_text(f"{{}}\n{name}")
        assert not resumes(), name
    alone = SftSettings(recipe=str(recipe), overrides={"dataset": "align", "eval_dataset": None})
    resumes(alone)
    (workspace.corpus / "reason.jsonl").write_text("another")
    assert resumes(alone)
    info = json.loads((workspace.corpus / "dataset_info.json").read_text())
    info["mine"] = {"file_name": "deep/mine.json"}
    (workspace.corpus / "dataset_info.json").write_text(json.dumps(info))
    mine = SftSettings(recipe=str(recipe), overrides={"dataset": ["align", "mine"], "eval_dataset": None})
    assert sft.STAGE.reads(workspace, mine)[2:] == [workspace.align, workspace.corpus / "deep" / "mine.json"]
