"""The real launchers: LLaMA-Factory with one process and two, LoRA, Ray beside a foreign Ray; and the doctor."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from gream_ext.base_model.model_format import FILE, read_format
from gream_ext.corpus.prompt_settings import PromptSettings, write_sidecar
from gream_ext.corpus.words import PRODUCT
from gream_ext.errors import GreamError
from gream_ext.pipeline.execute import holding
from gream_ext.pipeline.launch import LaunchError, launch
from gream_ext.pipeline.processes import belonging
from gream_ext.pipeline.sft import SftSettings
from gream_ext.pipeline.sft import run as run_sft
from gream_ext.plugins import doctor
from gream_ext.workspace import Workspace
from tests.support import tiny_sft

GREAM = str(Path(sys.executable).with_name("gream"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a tiny base model and corpus, in a path with a space."""
    workspace = Workspace(tmp_path_factory.mktemp("launch") / "a workspace")
    tiny_sft.make_model(workspace.model("base_model"))
    tiny_sft.write_corpus(workspace.corpus, tiny_sft.make_rows("align", 24), tiny_sft.make_rows("reason", 8))
    write_sidecar(workspace.align, 7, PRODUCT)
    write_sidecar(workspace.reason, 9, PRODUCT, "short")
    return workspace


def recipe(workspace: Workspace, **keys: Any) -> str:
    """A YAML file of the user's own, without the keys that are the workspace's."""
    given = tiny_sft.settings(workspace.root, workspace.root, workspace.root, disable_tqdm=False, **keys)
    for key in ("model_name_or_path", "dataset_dir", "output_dir"):
        del given[key]
    path = workspace.path("my recipe.yaml")
    path.write_text(yaml.safe_dump(given))
    return str(path)


def test_two_processes_in_a_path_with_a_space(prepared: Workspace) -> None:
    own = recipe(prepared, gream_curriculum=True, num_train_epochs=1, gream_curriculum_epochs=1)
    run_sft(prepared, SftSettings(recipe=own, processes=2))
    model = prepared.model("sft")
    names = {path.name for path in model.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "curriculum_log.jsonl", "trainer_log.jsonl"} <= names
    assert not [
        name
        for name in names - {FILE}
        if name.startswith(("checkpoint", "gream_", "datasets")) or name.endswith(".bin")
    ]
    how = read_format(model)
    assert how.prompts == PromptSettings(7, 9, "short") and how.template == "qwen3_nothink"
    assert how.versions["llamafactory"], "what trained it"
    # 32 rows over 2 processes × 2 rows × 2 accumulated.
    assert len((model / "curriculum_log.jsonl").read_text().splitlines()) == 4
    assert not prepared.path("sft.training").exists()


def test_a_lora_adapter_is_merged(prepared: Workspace) -> None:
    from safetensors.torch import load_file

    own = recipe(prepared, finetuning_type="lora", lora_target="all", num_train_epochs=1, dataset="align")
    run_sft(prepared, SftSettings(recipe=own, processes=1))
    model = prepared.model("sft")
    assert not (model / "adapter_config.json").exists() and (model / "trainer_log.jsonl").exists()
    before = load_file(prepared.model("base_model") / "model.safetensors")
    after = load_file(model / "model.safetensors")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


def test_new_tokens_are_trained_beside_lora_and_come_apart_where_they_were_tied(prepared: Workspace) -> None:
    """Training both copies of a tied pair makes two matrices of it; whoever loads the merged model must get both."""
    import torch
    from transformers import AutoModelForCausalLM

    additional = "embed_tokens,lm_head"
    keys = {"finetuning_type": "lora", "lora_target": "all", "additional_target": additional, "num_train_epochs": 1}
    run_sft(prepared, SftSettings(recipe=recipe(prepared, **keys, dataset="align"), processes=1))
    base, merged = (AutoModelForCausalLM.from_pretrained(prepared.model(name)) for name in ("base_model", "sft"))
    assert base.config.tie_word_embeddings and not merged.config.tie_word_embeddings
    assert merged.dtype == base.dtype
    rows = [merged.get_input_embeddings().weight, merged.get_output_embeddings().weight]
    assert not torch.equal(*rows)
    assert all(not torch.equal(matrix, base.get_input_embeddings().weight) for matrix in rows)


def test_a_wrong_key_of_the_curriculum_is_one_clear_sentence(prepared: Workspace) -> None:
    for own in (SftSettings(recipe=recipe(prepared, gream_gama=2.0)), SftSettings(overrides={"gream_gama": 2.0})):
        with pytest.raises(GreamError, match=r"^LLaMA-Factory .* has no key gream_gama: did you mean 'gream_gamma'\?$"):
            run_sft(prepared, own)
    with pytest.raises(GreamError, match=r"has no key learning_rat: did you mean 'learning_rate'\?$"):
        run_sft(prepared, SftSettings(overrides={"learning_rat": 1e-3}))
    assert not prepared.path("sft.training").exists(), "found before LLaMA-Factory was started"


FOREIGN = """
import ray, sys
ray.init(num_cpus=1, include_dashboard=False, _temp_dir=sys.argv[1])
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def foreign_ray(tmp_path: Path) -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """A Ray that somebody else runs on this machine, which ``RAY_ADDRESS`` names too."""
    short = Path(os.environ.get("TMPDIR", "/tmp")) / f"foreign-{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-c", FOREIGN, str(short)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    with process.stdin, process.stdout:
        yield process, process.stdout.readline().strip()
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait()
        for child in psutil.wait_procs(children, timeout=10)[1]:
            child.kill()
    subprocess.run(["rm", "-rf", str(short)], check=True)


def test_ray_is_its_own_and_gone_afterwards(
    workspace: Workspace, foreign_ray: "tuple[subprocess.Popen[str], str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    process, address = foreign_ray
    monkeypatch.setenv("RAY_ADDRESS", address)
    code = textwrap.dedent("""
        import os, ray
        ray.init(num_cpus=2, include_dashboard=False)
        work = ray.remote(lambda: os.getpid())
        print("workers", len(set(ray.get([work.remote() for _ in range(4)]))))
        print("address", ray.get_runtime_context().gcs_address)
        os._exit(3)
    """)
    with pytest.raises(LaunchError, match="exit code 3"), holding(workspace):
        launch([sys.executable, "-c", code], name="ray", workspace=workspace)
    log = workspace.log("ray").read_text()
    assert "address " in log and f"address {address}" not in log
    assert not belonging(workspace), "Ray's agents outlive their driver by a minute if nobody ends them"
    assert process.poll() is None and psutil.Process(process.pid).children()


@pytest.mark.parametrize(
    ("framework", "switch", "part"),
    [
        ("llamafactory", {"GREAM_LLAMAFACTORY": "0"}, "curriculum"),
        ("verl", {"VERL_USE_EXTERNAL_PLUGINS": "none"}, "estimator"),
    ],
)
def test_the_doctor_sees_what_is_in_place_and_what_is_not(
    framework: str, switch: dict[str, str], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor.examine(framework)
    assert found.healthy and part in found.parts and found.version in found.supported
    for name, value in switch.items():
        monkeypatch.setenv(name, value)
    assert doctor.examine(framework).parts[part]
