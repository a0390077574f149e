"""When a stage runs again and when not."""

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gream_ext.errors import GreamError
from gream_ext.pipeline import record
from gream_ext.pipeline.record import fingerprint, read_record, record_path, run_stage, slug, why_run
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, write_json


@dataclass(frozen=True)
class CopySettings:
    times: int = option(1, help="how often")


def copy(workspace: Workspace, settings: CopySettings) -> None:
    text = workspace.path("in", "text").read_text() * settings.times
    if "bad" in text:
        raise GreamError("bad text")
    write_json(workspace.path("out", "a.json"), text)
    write_json(workspace.path("out", "b.json"), settings.times)


COPY = Stage(
    name="copy",
    settings=CopySettings,
    run=copy,
    reads=lambda workspace, settings: [workspace.path("in")],
    writes=lambda workspace, settings: [workspace.path("out", "a.json"), workspace.path("out", "b.json")],
)


@pytest.fixture
def source(workspace: Workspace) -> Path:
    path = workspace.path("in", "text")
    path.parent.mkdir(parents=True)
    path.write_text("abc")
    return path


def ran(workspace: Workspace, times: int = 1, force: bool = False, stage: Stage = COPY) -> bool:
    return run_stage(stage, workspace, CopySettings(times), force).ran


def test_runs_once_and_says_what_made_the_files(workspace: Workspace, source: Path) -> None:
    assert why_run(COPY, workspace, CopySettings()) == "it has not run to its end"
    assert ran(workspace)
    assert why_run(COPY, workspace, CopySettings()) is None
    assert not ran(workspace)
    record = json.loads(record_path(workspace, "copy").read_text())
    assert record["stage"] == record["label"] == "copy"
    assert record["settings"] == {"times": 1}
    assert record["seconds"] >= 0 and record["finished"].endswith("+00:00")
    assert record["versions"]["gream_ext"] and "torch" in record["versions"]
    assert list(record["inputs"]) == ["in"] and list(record["outputs"]) == ["out/a.json", "out/b.json"]
    # sha256 of "abc", FIPS 180-2; a folder's hash covers the names.
    assert record["inputs"]["in"]["files"]["text"][2].startswith("ba7816bf8f01cfea")


def test_runs_again_for_other_settings_inputs_or_outputs(workspace: Workspace, source: Path) -> None:
    ran(workspace)
    assert ran(workspace, times=2)
    assert not ran(workspace, times=2)
    source.write_text("abd")
    assert ran(workspace, times=2)
    (source.parent / "more").write_text("")
    assert ran(workspace, times=2)
    workspace.path("out", "b.json").write_text("something else")
    assert ran(workspace, times=2)
    workspace.path("out", "a.json").unlink()
    assert ran(workspace, times=2)
    assert ran(workspace, times=2, force=True)
    assert not ran(workspace, times=2)


@dataclass(frozen=True)
class MoreSettings(CopySettings):
    fresh: bool = option(False, help="a setting that earlier versions did not have")
    device: str = option("auto", help="where it is done", machine=True)


def test_settings_that_change_no_result_make_nothing_stale(workspace: Workspace, source: Path) -> None:
    """Neither one that is new and at its default, nor one that says on which machine the work is done."""
    ran(workspace)
    more = dataclasses.replace(COPY, settings=MoreSettings)
    assert why_run(more, workspace, MoreSettings()) is None
    assert why_run(more, workspace, MoreSettings(device="cuda")) is None
    assert why_run(more, workspace, MoreSettings(fresh=True)) == "other settings: fresh"
    run_stage(more, workspace, MoreSettings(fresh=True))
    assert why_run(COPY, workspace, CopySettings()) == "other settings: fresh, device", "of a later version"


def test_only_contents_count_not_times(workspace: Workspace, source: Path) -> None:
    ran(workspace)
    for path in (source, workspace.path("out", "a.json")):
        os.utime(path, ns=(1, 1))
    assert not ran(workspace)


def test_a_moved_workspace_is_still_up_to_date(workspace: Workspace, source: Path) -> None:
    ran(workspace)
    moved = Workspace(workspace.root.parent / "moved")
    workspace.root.rename(moved.root)
    assert not ran(moved)


def test_a_workspace_in_another_checkout_is_still_up_to_date(
    workspace: Workspace, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checkout(name: str) -> Stage:
        folder = tmp_path / name / "recipes"
        folder.mkdir(parents=True)
        (folder / "sft.yaml").write_text("stage: sft")
        monkeypatch.setattr(record, "recipes_folder", lambda: folder)
        return dataclasses.replace(COPY, reads=lambda workspace, settings: [source, folder / "sft.yaml"])

    assert ran(workspace, stage=checkout("first"))
    assert not ran(workspace, stage=checkout("second"))


def test_a_failing_stage_leaves_record_and_files_as_they_were(workspace: Workspace, source: Path) -> None:
    ran(workspace)
    before = record_path(workspace, "copy").read_bytes(), workspace.path("out", "a.json").read_bytes()
    source.write_text("bad")
    with pytest.raises(GreamError, match="bad text"):
        ran(workspace)
    assert (record_path(workspace, "copy").read_bytes(), workspace.path("out", "a.json").read_bytes()) == before
    source.write_text("abc")
    assert not ran(workspace)


def test_labels_tell_two_runs_of_a_stage_apart(workspace: Workspace, source: Path) -> None:
    labelled = dataclasses.replace(
        COPY,
        label=lambda settings: f"copy {settings.times} / Times",
        writes=lambda workspace, settings: [workspace.path("out", "b.json")],
    )
    ran(workspace, 1, stage=labelled)
    ran(workspace, 2, stage=labelled)
    assert sorted(path.name for path in workspace.path("stages").iterdir()) == [
        "copy-1-times.json",
        "copy-2-times.json",
    ]
    assert slug("evaluate sft direct test") == "evaluate-sft-direct-test"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 20_000,
        b'{"outputs": {"x": 5}}',
        b'{"outputs": []}',
        b'{"outputs": {}, "seconds": "x"}',
        b'{"outputs": {}, "inputs": [1]}',
        b'{"outputs": {"x": {"sha256": "a"}}}',
        b'{"outputs": {}, "inputs": {"in": {"sha256": "a", "files": {"text": 5}}}}',
    ],
)
def test_a_damaged_record_is_none(workspace: Workspace, source: Path, damage: bytes) -> None:
    ran(workspace)
    record_path(workspace, "copy").write_bytes(damage)
    assert read_record(workspace, "copy") is None
    assert ran(workspace)


def test_a_stage_that_wrote_nothing_leaves_no_record(workspace: Workspace, source: Path) -> None:
    """A dry run, for example."""
    dry = dataclasses.replace(COPY, run=lambda workspace, settings: None)
    assert run_stage(dry, workspace, CopySettings()).ran
    assert not workspace.path("stages").exists()


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_bytes(b"x" * 1000)
    (tmp_path / "model" / "config").write_bytes(b"y")
    first = fingerprint(tmp_path / "model")
    (tmp_path / "model" / "config").write_bytes(b"zz")
    opened: list[str] = []
    real = Path.open

    def open_counted(path: Path, *arguments: Any) -> Any:
        opened.append(path.name)
        return real(path, *arguments)

    monkeypatch.setattr(Path, "open", open_counted)
    second = fingerprint(tmp_path / "model", first)
    assert opened == ["config"]
    assert first and second and first["sha256"] != second["sha256"]
    assert fingerprint(tmp_path / "nothing") is None
