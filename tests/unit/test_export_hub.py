"""Exports on the Hugging Face hub, with its own client against a fake of it on loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from gream_ext.base_model.model_format import RECORD
from gream_ext.errors import GreamError
from gream_ext.hub import license_of
from gream_ext.inference.card import Said, origin
from gream_ext.inference.sharing import find_export, means_hub
from gream_ext.inference.stages import ExportSettings
from gream_ext.workspace import Workspace, write_json
from tests.support.fake_hub import Hub, fake_hub
from tests.support.tiny_workspace import make_model_workspace

NAME = "maker/shop-recommender"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with fake_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_model_workspace(tmp_path_factory.mktemp("workspace"))
    write_json(workspace.model("base_model") / RECORD, {"settings": {"base_model": "smollm2"}})
    return workspace


def child(hub: Hub, home: Path, code: str, token: bool = True) -> subprocess.CompletedProcess[str]:
    """In a process of its own: huggingface_hub reads where its hub is when it is imported."""
    environment = {"PATH": os.environ["PATH"], "HF_HOME": str(home), "HF_ENDPOINT": hub.url, "OMP_NUM_THREADS": "1"}
    environment |= {"HF_TOKEN": hub.token} if token else {}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def pushed(hub: Hub, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> str:
    command = ["export", "--workspace", str(workspace.root), "--push", NAME, "--dataset", "maker/shop"]
    code = f"from gream_ext.cli import main; raise SystemExit(main({command!r}))"
    done = child(hub, tmp_path_factory.mktemp("writer"), code)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_exactly_the_files_of_the_manifest_are_pushed(hub: Hub, workspace: Workspace, pushed: str) -> None:
    _, files = hub.commit(NAME, "main")
    manifest = json.loads(files["gream.json"])
    assert set(files) == {".gitattributes", "README.md", "gream.json", *manifest["files"]}
    assert files["trie.safetensors"] == workspace.path("export", "trie.safetensors").read_bytes()
    assert hub.private[NAME], "titles of a shop are nobody's business until somebody says so"
    assert f"{hub.url}/{NAME}/commit/" in pushed
    written = b"".join(path.read_bytes() for path in workspace.root.rglob("*") if path.is_file())
    assert hub.token not in pushed and hub.token.encode() not in written + b"".join(files.values())


def test_the_card_has_the_head_that_the_hub_reads(hub: Hub, pushed: str) -> None:
    card = hub.commit(NAME, "main")[1]["README.md"].decode()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0" and head["base_model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert head["datasets"] == ["maker/shop"] and "recommendation" in head["tags"]
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "text-generation")
    assert f'gream_ext.load("{NAME}")' in card and f"gream serve --export {NAME}" in card and "$" not in card
    assert "pip install gream-ext\n" not in card, "no index has it"


def test_it_recommends_from_there(hub: Hub, workspace: Workspace, pushed: str, tmp_path: Path) -> None:
    """What lies beside the export in its repository is not even fetched."""
    hub.repositories[NAME][-1]["model/pytorch_model.bin"] = b"pickled"
    hub.asked.clear()
    done = child(
        hub,
        tmp_path,
        "import gream_ext\nfrom gream_ext.cli import main\n"
        f"print([one.item_id for one in gream_ext.load({NAME!r}).recommend(['i1', 'i2'], 4)])\n"
        f"print([one.item_id for one in gream_ext.load({str(workspace.root)!r}).recommend(['i1', 'i2'], 4)])\n"
        f"raise SystemExit(main(['recommend', '--export', {NAME!r} + '@' + '1'.zfill(40), '--history', 'i1']))",
    )
    assert done.returncode == 0, done.stderr
    there, here, *shown = done.stdout.splitlines()
    assert there == here and "History:" in shown
    assert not any("pytorch_model" in path for path in hub.asked)
    del hub.repositories[NAME][-1]["model/pytorch_model.bin"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"trie.safetensors": b"changed after the push"}, "trie.safetensors has 22 bytes, not"),
        ({"gream.json": b"{"}, "gream.json is damaged"),
        ({"gream.json": None}, "the Hugging Face hub gives no such export"),
    ],
)
def test_what_is_not_whole_is_refused(
    hub: Hub, pushed: str, tmp_path: Path, harm: dict[str, bytes | None], said: str
) -> None:
    changed = {name: content for name, content in (hub.commit(NAME, "main")[1] | harm).items() if content is not None}
    hub.repositories["maker/harmed"], hub.private["maker/harmed"] = [changed], False
    done = child(hub, tmp_path, "import gream_ext; gream_ext.load('maker/harmed')")
    assert said in done.stderr.splitlines()[-1] and "GreamError" in done.stderr.splitlines()[-1]


def test_without_a_token_and_into_what_is_no_export(
    hub: Hub, workspace: Workspace, pushed: str, tmp_path: Path
) -> None:
    hub.repositories["maker/thesis"], hub.private["maker/thesis"] = [{"thesis.txt": b"years"}], False
    command = ["export", "--workspace", str(workspace.root), "--output", str(tmp_path / "out"), "--push"]
    code = f"from gream_ext.cli import main; raise SystemExit(main({command!r} + ['maker/thesis']))"
    refused = child(hub, tmp_path, code)
    assert refused.returncode == 2 and "holds thesis.txt and no export: name a new one" in refused.stderr
    assert hub.repositories["maker/thesis"] == [{"thesis.txt": b"years"}]
    earlier = {"gream.json": b"{}", "model/old.safetensors": b"stale", "LICENSE": b"mine"}
    hub.repositories["maker/earlier"], hub.private["maker/earlier"] = [earlier], False
    assert child(hub, tmp_path, code.replace("thesis", "earlier")).returncode == 0
    held = hub.commit("maker/earlier", "main")[1]
    assert held["LICENSE"] == b"mine" and "model/old.safetensors" not in held and "model/model.safetensors" in held
    stranger = child(hub, tmp_path, code.replace("thesis", "other"), token=False)
    assert stranger.returncode == 2 and "hf auth login" in stranger.stderr and "maker/other" not in hub.repositories


def test_no_hub_answers(workspace: Workspace, pushed: str, tmp_path: Path) -> None:
    nowhere = Hub("http://127.0.0.1:9")
    command = ["export", "--workspace", str(workspace.root), "--output", str(tmp_path / "out"), "--push", NAME]
    done = child(nowhere, tmp_path, f"from gream_ext.cli import main; raise SystemExit(main({command!r}))")
    assert done.returncode == 2 and f"--push {NAME}: the Hugging Face hub does not take it" in done.stderr


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("maker/folder").mkdir(parents=True)
    assert find_export("maker/folder") == Path("maker/folder"), "what is here goes before the hub"
    assert find_export("runs/default/export") == Path("runs/default/export")
    assert find_export("maker/foldr") == Path("maker/foldr"), "a path misspelt is not asked for elsewhere"
    assert means_hub("maker/foldr@main") and means_hub("other/foldr") and not means_hub("maker/folder")
    for name in ("shop", "maker/shop@v1", "../maker", "https://huggingface.co/maker/shop"):
        with pytest.raises(GreamError, match="is called owner/name"):
            ExportSettings(push=name)


def test_the_licence_of_a_base_model(tmp_path: Path) -> None:
    assert license_of(str(tmp_path)) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    assert license_of(str(tmp_path)) == "mit"
    workspace = Workspace(tmp_path / "runs")
    write_json(workspace.model("base_model") / RECORD, {"settings": {"base_model": str(tmp_path)}})
    assert origin(workspace, Said()) == {"license": "mit"}, "a folder of this machine is nobody's business"
    write_json(workspace.model("base_model") / RECORD, {"settings": {"base_model": "maker/tiny"}})
    assert origin(workspace, Said()) == {"base_model": "maker/tiny"}
    write_json(workspace.model("base_model") / RECORD, {"settings": {"base_model": str(tmp_path)}})
    assert origin(workspace, Said("cc-by-4.0", "shop")) == {"license": "cc-by-4.0", "dataset": "shop"}
