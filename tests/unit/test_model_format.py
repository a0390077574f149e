"""How a model is asked travels with it; workspaces of before get it by one command; hub names go through the cache."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gream_ext.base_model.model_format import FILE, ModelFormat, read_format, read_prompts, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.errors import GreamError
from gream_ext.hub import model_folder
from gream_ext.pipeline import rl, upgrade
from gream_ext.pipeline.record import run_stage
from gream_ext.workspace import Workspace, write_json
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


def test_models_that_were_trained_without_gream_learn_how_they_are_asked(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upgrade, "can_compare", lambda: False)
    run_stage(ALIGN, workspace, ALIGNED)
    run_stage(REASON, workspace, ReasonSettings(rows=8, epochs=1, window=9, system_prompt="short"))
    for name in ("base_model", "sft"):
        workspace.model(name).mkdir()
        (workspace.model(name) / "config.json").write_text("{}")
    write_format(workspace.model("base_model"), ModelFormat(template="gemma"))
    with pytest.raises(GreamError, match="is missing, which says how the model is asked: `gream upgrade`"):
        read_format(workspace.model("sft"))
    upgrade.run(workspace, upgrade.UpgradeSettings())
    assert read_format(workspace.model("sft")) == ModelFormat(PromptSettings(7, 9, "short"), "gemma")
    assert capsys.readouterr().out == f"upgrade: wrote {workspace.model('sft') / FILE}\n"
    upgrade.run(workspace, upgrade.UpgradeSettings())
    assert "needs nothing" in capsys.readouterr().out
    (workspace.model("sft") / FILE).unlink()
    upgrade.run(workspace, upgrade.UpgradeSettings(template="llama3"))
    assert read_format(workspace.model("sft")).template == "llama3"


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
