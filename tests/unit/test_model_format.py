"""How a model is asked travels with it; workspaces of before get it by one command; hub names go through the cache."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gream_ext.base_model.model_format import FILE, ModelFormat, read_format, read_prompts, write_format
from gream_ext.corpus.prompt_settings import PromptSettings, sidecar
from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.errors import GreamError
from gream_ext.hub import model_folder
from gream_ext.pipeline import rl, sft, upgrade
from gream_ext.pipeline.record import read_record, record_path, run_stage, why_run
from gream_ext.workspace import Workspace, read_json, write_json
from tests.support.synthetic import make_workspace

ALIGNED = AlignSettings(max_rows=6, epochs=1, window=7)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    import numpy as np

    workspace = make_workspace(tmp_path / "run", users=12, items=20)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((20, 8), dtype=np.float32))
    return workspace


def test_the_file_and_what_a_command_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    how = ModelFormat(PromptSettings(7, 9, "short"), "gemma", {"python": "3.11"})
    write_format(tmp_path, how)
    assert read_format(tmp_path) == how
    assert read_prompts(tmp_path) == how.prompts
    assert read_prompts(tmp_path, 3, "full") == PromptSettings(3, 3, "full")
    about = json.loads((tmp_path / FILE).read_text())
    assert (about["kind"], about["version"], about["template"]) == ("gream_model", 1, "gemma")
    about["prompts"]["direct_window"] = 0
    write_json(tmp_path / FILE, about)
    with pytest.raises(GreamError, match=r"gream_model\.json is damaged \(direct_window is 0\)"):
        read_format(tmp_path)


def test_reinforcement_asks_as_the_start_model_was_trained(workspace: Workspace) -> None:
    run_stage(ALIGN, workspace, ALIGNED)
    RL.run(workspace, RlSettings(prompts=5, valid_users=2))
    how = ModelFormat(PromptSettings(7, 7))
    rl.check_prompts(workspace.rl_train, how)
    other = ModelFormat(replace(how.prompts, direct_window=20))
    with pytest.raises(
        GreamError, match=r"train\.parquet asks with direct_window 7, and the model was trained with 20"
    ):
        rl.check_prompts(workspace.rl_train, other)


def before_version_2(workspace: Workspace) -> None:
    """The files as an earlier version left them, records included."""
    for name in ("base_model", "sft"):
        workspace.model(name).mkdir()
        (workspace.model(name) / "config.json").write_text("{}")
    for kind, path in (("align", workspace.align), ("reason", workspace.reason)):
        sidecar(path).unlink()
        record = read_json(record_path(workspace, f"corpus {kind}"), "")
        del record["outputs"][f"corpus/{sidecar(path).name}"], record["settings"]["domain"]
        write_json(record_path(workspace, f"corpus {kind}"), record)


def test_a_workspace_of_an_earlier_version(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gream_ext.pipeline.record import fingerprint

    monkeypatch.setattr(upgrade, "can_compare", lambda: False)
    reasoned = ReasonSettings(rows=8, epochs=1, window=9, system_prompt="short")
    run_stage(ALIGN, workspace, ALIGNED)
    run_stage(REASON, workspace, reasoned)
    before_version_2(workspace)
    trained = {"stage": "sft", "settings": {"recipe": "sft_curriculum", "overrides": {"template": "gemma"}},
               "versions": {"python": "3.11"}, "seconds": 9.0,
               "inputs": {name: fingerprint(workspace.path(name)) for name in ("base_model", "corpus/align.jsonl")},
               "outputs": {"sft": fingerprint(workspace.model("sft"))}}  # fmt: skip
    write_json(record_path(workspace, "sft"), trained)
    with pytest.raises(GreamError, match="is missing, which says how the model is asked: `gream upgrade`"):
        read_format(workspace.model("sft"))

    upgrade.run(workspace, upgrade.UpgradeSettings())
    found = read_format(workspace.model("sft"))
    assert found == ModelFormat(PromptSettings(7, 9, "short"), "gemma", {"python": "3.11"})
    assert capsys.readouterr().out.count("upgrade: wrote") == 4
    assert why_run(ALIGN, workspace, ALIGNED) is None and why_run(REASON, workspace, reasoned) is None
    record = read_record(workspace, "sft")
    assert record is not None and record["outputs"]["sft"] == fingerprint(workspace.model("sft")), "not trained again"
    assert record["inputs"]["base_model"] == fingerprint(workspace.model("base_model"))
    upgrade.run(workspace, upgrade.UpgradeSettings())
    assert "needs nothing" in capsys.readouterr().out

    record_path(workspace, "corpus align").unlink()
    sidecar(workspace.align).unlink()
    with pytest.raises(GreamError, match=r"nothing else says how align\.jsonl asks: run `gream corpus align` again"):
        upgrade.run(workspace, upgrade.UpgradeSettings())


@pytest.mark.parametrize("changed", [False, True])
def test_nothing_of_an_earlier_version_is_trained_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    """Its records lack the settings that are new, and SFT's has the whole corpus for an input."""
    from gream_ext.pipeline.record import fingerprint, fingerprints

    monkeypatch.setattr(upgrade, "can_compare", lambda: False)
    run_stage(ALIGN, workspace, ALIGNED)
    run_stage(REASON, workspace, ReasonSettings(rows=8, epochs=1))
    run_stage(RL, workspace, RlSettings(prompts=5, valid_users=2))
    before_version_2(workspace)
    prompts = read_json(record_path(workspace, "corpus rl"), "")
    prompts["inputs"] = {name: one for name, one in prompts["inputs"].items() if not name.startswith("corpus/")}
    del prompts["settings"]["domain"]
    write_json(record_path(workspace, "corpus rl"), prompts)
    settings = sft.SftSettings(overrides={"template": "gemma"})
    inputs = fingerprints(sft.STAGE.reads(workspace, settings), workspace, {})
    inputs = {name: one for name, one in inputs.items() if not name.startswith("corpus/")}
    trained = {"stage": "sft", "settings": {"recipe": settings.recipe, "overrides": settings.overrides},
               "inputs": {**inputs, "corpus": fingerprint(workspace.corpus)}, "seconds": 9.0,
               "outputs": {"sft": fingerprint(workspace.model("sft"))}}  # fmt: skip
    write_json(record_path(workspace, "sft"), trained)
    if changed:
        workspace.align.write_bytes(workspace.align.read_bytes() + b"\n")

    upgrade.run(workspace, upgrade.UpgradeSettings())
    reasons = [
        why_run(sft.STAGE, workspace, settings),
        why_run(ALIGN, workspace, ALIGNED),
        why_run(RL, workspace, RlSettings(prompts=5, valid_users=2)),
    ]
    if changed:
        assert reasons == ["corpus/align.jsonl is new or changed"] * 2 + [None]
    else:
        assert reasons == [None] * 3


def test_a_name_on_the_hub(tmp_path: Path) -> None:
    """Read from Hugging Face's own cache, in its layout, without a network."""
    commit = "0" * 40
    snapshot = tmp_path / "hub" / "models--Maker--Model-1B" / "snapshots" / commit
    (snapshot.parent.parent / "refs").mkdir(parents=True)
    (snapshot.parent.parent / "refs" / "main").write_text(commit)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    code = (
        "from gream_ext.hub import model_folder\nfrom gream_ext.errors import GreamError\n"
        "print(model_folder('Maker/Model-1B'))\n"
        "try: model_folder('Maker/Other')\nexcept GreamError as error: print(error)"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    folder, sentence = done.stdout.splitlines()
    assert Path(folder) == snapshot
    assert sentence.startswith("Maker/Other is no folder here, and the Hugging Face hub gives no such model (")
    assert "HF_HOME" in sentence


def test_a_folder_is_a_folder_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("maker/model").mkdir(parents=True)
    assert model_folder("maker/model") == Path("maker/model")
    assert model_folder(str(tmp_path / "nowhere")) == tmp_path / "nowhere"
    assert model_folder("../maker/model/x") == Path("../maker/model/x")
    shutil.rmtree("maker")
