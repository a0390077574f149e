"""The folder that ``export`` writes, and what is said of one that is not whole."""

import hashlib
import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gream_ext.base_model.model_format import ModelFormat, read_format, write_format
from gream_ext.cli import main
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import model_hash
from gream_ext.evaluation.stages import EVALUATE, EvaluateSettings
from gream_ext.inference.commands import run_export as run
from gream_ext.inference.commands import run_recommend as recommend
from gream_ext.inference.export import write_export
from gream_ext.inference.export_format import MODEL_FILES, sha256
from gream_ext.inference.model import ModelRecommender, load
from gream_ext.inference.questions import Question
from gream_ext.inference.source import export_source, workspace_source
from gream_ext.inference.stages import EXPORT as STAGE
from gream_ext.inference.stages import ExportSettings, RecommendSettings
from gream_ext.pipeline.record import run_stage, why_run
from gream_ext.workspace import ITEMS, Workspace, read_json, read_table, write_json, write_table
from tests.support.tiny_workspace import make_model_workspace

QUESTIONS = [Question(("i1", "i2")), Question((), 5), Question(("i3",), exclude=frozenset({"i3"}))]


def load_export(folder: Path) -> ModelRecommender:
    return load(export_source(folder))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_model_workspace(tmp_path_factory.mktemp("workspace"))
    for name in ("optimizer.pt", "training_args.bin", "trainer_log.jsonl", "curriculum_log.jsonl"):
        (workspace.model("sft") / name).write_text("no part of the model")
    write_json(workspace.path("evaluation", "srpo", "direct-test.json"), {"recall@10": 0.9999, "users": 20})
    write_json(workspace.path("report.json"), {"sft": {"direct": {"recall@10": 0.9999}}})
    prompts = PromptSettings(direct_window=7, system_prompt="short")
    write_format(workspace.model("sft"), ModelFormat(prompts, versions={"python": "3.0", "llamafactory": "0.9.5"}))
    of_it = {"model_sha256": model_hash(workspace.model("sft"), workspace.item_index)}
    write_json(workspace.path("evaluation", "sft", "direct-test.json"), {"recall@10": 0.1234, "users": 20, **of_it})
    run(workspace, ExportSettings())
    return workspace


@pytest.fixture
def folder(workspace: Workspace, tmp_path: Path) -> Path:
    """The export on another machine: nothing of the workspace is beside it."""
    return Path(shutil.copytree(workspace.path("export"), tmp_path / "elsewhere"))


def test_it_recommends_the_same_elsewhere(workspace: Workspace, folder: Path) -> None:
    here, there = load(workspace_source(workspace)), load_export(folder)
    assert there.direct(QUESTIONS) == here.direct(QUESTIONS)
    there.sampling = here.sampling = type(here.sampling)(n=1, max_new_tokens=8)
    assert list(there.reason(Question(("i1",), seed=1))) == list(here.reason(Question(("i1",), seed=1)))
    assert export_source(folder).how == workspace_source(workspace).how == read_format(workspace.model("sft"))
    assert there.modes.prompts.direct_window == 7 and there.modes.prompts.system_prompt == "short"


def test_what_is_in_it(workspace: Workspace, folder: Path) -> None:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"README.md", "gream.json", "item_index.parquet", "items.parquet", "trie.safetensors"} < names
    assert {"model/config.json", "model/model.safetensors", "model/tokenizer.json"} < names
    assert not any(name.endswith((".pt", ".bin", ".jsonl", ".pkl")) for name in names)
    about = json.loads((folder / "gream.json").read_text())
    assert set(about["files"]) == names - {"README.md", "gream.json"}
    for name, one in about["files"].items():
        assert one["sha256"] == sha256(folder / name)
    card = (folder / "README.md").read_text()
    assert "| direct | recall@10 | 0.1234 |" in card
    assert "0.9999" not in card, "neither another model's figure nor the report's, which may be of an earlier model"
    assert "python 3.0, llamafactory 0.9.5" in card
    assert about["figures"]["direct"]["users"] == 20 and about["dataset"] == read_json(workspace.statistics, "prepare")
    assert "$" not in card
    items = pl.read_parquet(folder / "items.parquet")
    assert items["description"].null_count() == len(items)
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert str(workspace.root).encode() not in everything, "no path of this machine"
    assert b'"u3"' not in everything


def test_the_command_takes_it_in_place_of_a_workspace(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = Workspace(tmp_path / "nowhere")
    recommend(nowhere, RecommendSettings(history=["i1"], n=4, export=str(folder)))
    head, seen, *found = [line for line in capsys.readouterr().out.splitlines() if line]
    assert head == "History:" and seen.strip() and len(found) == 4
    with pytest.raises(GreamError, match="an export knows no users"):
        recommend(nowhere, RecommendSettings(user="u1", export=str(folder)))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda folder: (folder / "gream.json").unlink(), "is no folder that `gream export` wrote"),
        (lambda folder: (folder / "gream.json").write_text("{"), "is damaged"),
        (lambda folder: (folder / "gream.json").write_text("[]"), "is damaged"),
        (
            lambda folder: (folder / "gream.json").write_text('{"kind": "x", "version": 1, "files": {}}'),
            "is 'x' version",
        ),
        (lambda folder: (folder / "trie.safetensors").unlink(), "trie.safetensors is missing: copy the whole"),
        (lambda folder: (folder / "model" / "model.safetensors").write_bytes(b"half"), "has 4 bytes, not"),
    ],
)
def test_a_folder_that_is_not_whole(folder: Path, harm: object, said: str) -> None:
    harm(folder)  # type: ignore[operator]
    with pytest.raises(GreamError, match=said.replace(".", r"\.")):
        load_export(folder)


@pytest.mark.parametrize(
    "name",
    ["model/model.safetensors", "model/tokenizer.json", "trie.safetensors", "item_index.parquet", "items.parquet"],
)
def test_a_file_with_other_bytes(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(byte ^ 0xFF for byte in content[middle : middle + 64])
    (folder / name).write_bytes(content)
    with pytest.raises(GreamError, match=rf"{re.escape(str(folder / name))} is damaged \(its sha256 is not"):
        load_export(folder)


MISSING = object()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model", MISSING, "it has no model"),
        ("files", MISSING, "it has no files"),
        ("model", None, "model is None"),
        ("model", "", "model is ''"),
        ("files", [], "files is []"),
        ("files", {}, "files has no item_index.parquet"),
    ],
)
def test_what_gream_json_says_is_checked(folder: Path, key: str, value: object, said: str) -> None:
    about = json.loads((folder / "gream.json").read_text())
    about |= {key: value}
    write_json(folder / "gream.json", {name: one for name, one in about.items() if one is not MISSING})
    with pytest.raises(GreamError, match=re.escape(f"gream.json is damaged ({said}): export again")):
        load_export(folder)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (MISSING, "gream.json is damaged (files has no weights, model/*.safetensors)"),
        (None, "gream.json is damaged (files: model/model.safetensors is None)"),
        ({"bytes": MISSING}, "gream.json is damaged (files: model/model.safetensors is {'sha256'"),
        ({"sha256": MISSING}, "gream.json is damaged (files: model/model.safetensors is {'bytes'"),
        ({"sha256": 5}, "gream.json is damaged (files: model/model.safetensors is {'bytes'"),
        ({"sha256": "short"}, "gream.json is damaged (files: model/model.safetensors is {'bytes'"),
        ({"sha256": "0" * 64}, "model.safetensors is damaged (its sha256 is not that of gream.json)"),
    ],
)
def test_what_gream_json_says_of_a_file_is_checked(folder: Path, changed: Any, said: str) -> None:
    about = json.loads((folder / "gream.json").read_text())
    entry = about["files"].pop("model/model.safetensors")
    if isinstance(changed, dict):
        changed = {key: one for key, one in (entry | changed).items() if one is not MISSING}
    if changed is not MISSING:
        about["files"]["model/model.safetensors"] = changed
    write_json(folder / "gream.json", about)
    with pytest.raises(GreamError, match=re.escape(said)):
        load_export(folder)


def manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    about = json.loads((folder / "gream.json").read_text())
    change(about["files"])
    write_json(folder / "gream.json", about)


def listed(folder: Path, name: str, content: bytes) -> None:
    """An attacker's file, in the manifest with its right size and hash."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    one = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest(folder, lambda files: files.update({name: one}))


PICKLE = pickle.dumps({"lm_head.weight": 1})
ADAPTER = b'{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}'


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "adapter_config.json", "modeling_gream.py", "model-2.safetensors", "training_args.bin"],
)
def test_a_file_that_the_manifest_does_not_name_is_refused(folder: Path, name: str) -> None:
    (folder / "model" / name).write_bytes(ADAPTER if name.endswith(".json") else PICKLE)
    with pytest.raises(GreamError, match=rf"{re.escape(name)} is not named in .*gream\.json"):
        load_export(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model/pytorch_model.bin",
        "model/adapter_config.json",
        "model/modeling_gream.py",
        "model/sub/config.json",
        "../x",
    ],
)
def test_a_manifest_may_not_name_what_an_export_never_has(folder: Path, name: str) -> None:
    listed(folder, name, ADAPTER)
    with pytest.raises(GreamError, match=rf"files: '{re.escape(name)}' is no file of an export"):
        load_export(folder)


def test_weights_are_safetensors_that_the_manifest_names(folder: Path) -> None:
    """Without them transformers would take the pickle beside them."""
    weights = folder / "model" / "model.safetensors"
    (folder / "model" / "pytorch_model.bin").write_bytes(PICKLE)
    weights.unlink()
    manifest(folder, lambda files: files.pop("model/model.safetensors"))
    with pytest.raises(GreamError, match="files has no weights"):
        load_export(folder)


def test_parts_of_the_weights_stand_in_the_manifest(folder: Path) -> None:
    index = json.dumps({"weight_map": {"lm_head.weight": "../../elsewhere.safetensors"}}).encode()
    listed(folder, "model/model.safetensors.index.json", index)
    with pytest.raises(GreamError, match=r"names '\.\./\.\./elsewhere.safetensors', which is no file of the export"):
        load_export(folder)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_no_code_of_an_export_runs(folder: Path, tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto_map` would have transformers ask at a terminal, and run what it is told."""
    marker, code = tmp_path / "marker", tmp_path / "code"
    code.mkdir()
    text = f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n"
    for name in ("configuration_evil", "modeling_evil", "tokenization_evil"):
        (code / f"{name}.py").write_text(text)
    classes = {
        "config.json": {
            "AutoConfig": f"{code}--configuration_evil.Config", "AutoModelForCausalLM": f"{code}--modeling_evil.Model"
        },
        "tokenizer_config.json": {"AutoTokenizer": ["t.T", f"{code}--tokenization_evil.Tokenizer"]},
    }  # fmt: skip
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    path = folder / "model" / file
    about = json.loads(path.read_text()) | {"auto_map": classes[file]}
    if file == "config.json":
        about["model_type"] = "evil"
    listed(folder, f"model/{file}", json.dumps(about).encode())
    try:
        load_export(folder)
    except GreamError as error:
        assert "\n" not in str(error)
    assert not marker.exists()


def test_an_export_elsewhere_needs_no_write_access(workspace: Workspace, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [workspace.root, *workspace.root.rglob("*")]}
    command = ["export", "--workspace", str(workspace.root), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in [workspace.root, *workspace.root.rglob("*")]} == before
    assert main(command) == 0, "the same once more is up to date"
    assert load_export(tmp_path / "out").direct(QUESTIONS)


def test_an_export_of_an_earlier_catalogue_is_not_up_to_date(tmp_path: Path) -> None:
    workspace, command = make_model_workspace(tmp_path / "w"), ExportSettings(output=str(tmp_path / "out"))
    run(workspace, command)
    run(workspace, command)
    renamed = read_table(workspace.items, ITEMS, "prepare").with_columns(title=pl.col("title") + " (2nd edition)")
    write_table(renamed, workspace.items, ITEMS)
    with pytest.raises(GreamError, match="exists: name another folder"):
        run(workspace, command)
    (tmp_path / "out" / "gream.json").write_text("{}")
    with pytest.raises(GreamError, match="exists: name another folder"):
        run(workspace, command)


def test_an_output_that_exists_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(GreamError, match="exists: name another folder"):
        run(workspace, ExportSettings(output=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    run(workspace, ExportSettings(output=str(tmp_path / "new")))
    assert load_export(tmp_path / "new").direct(QUESTIONS)


def test_what_the_stage_reads_and_writes(workspace: Workspace) -> None:
    assert workspace.model("sft") in STAGE.reads(workspace, ExportSettings())
    assert STAGE.writes(workspace, ExportSettings()) == [workspace.path("export")]


def test_the_card_has_the_figures_of_this_model_and_no_other(tmp_path: Path) -> None:
    workspace = make_model_workspace(tmp_path)
    settings = EvaluateSettings(model="sft", device="cpu", cutoffs=(1, 5), beams=5)

    def card() -> str:
        assert run_stage(STAGE, workspace, ExportSettings()).ran, "what came before makes the export out of date"
        assert why_run(STAGE, workspace, ExportSettings()) is None
        return workspace.path("export", "README.md").read_text()

    assert "Not evaluated" in card()
    run_stage(EVALUATE, workspace, settings)
    evaluated = read_json(workspace.path("evaluation", "sft", "direct-test.json"), "evaluate")
    assert f"| direct | ndcg@5 | {evaluated['ndcg@5']:.4f} |" in card()

    config = read_json(workspace.model("sft") / "config.json", "sft")
    write_json(workspace.model("sft") / "config.json", config | {"trained": "again"})
    assert "Not evaluated" in card()
    run_stage(EVALUATE, workspace, settings)
    assert "| direct | ndcg@5 |" in card()


def test_the_files_of_a_model() -> None:
    for name in (
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "chat_template.jinja",
        "vocab.json",
    ):
        assert MODEL_FILES.fullmatch(name)
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "trainer_state.json", "modeling_custom.py"):
        assert not MODEL_FILES.fullmatch(name)


def test_a_model_that_lacks_a_file_is_not_exported(tmp_path: Path) -> None:
    workspace = make_model_workspace(tmp_path)
    source = workspace_source(workspace)
    (workspace.model("sft") / "gream_model.json").unlink()
    with pytest.raises(GreamError, match=r"has no gream_model\.json, which an export needs"):
        write_export(workspace, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
