"""Pipeline files: checked before anything runs, then run step by step; one run at a time."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from gream_ext.cli import main
from gream_ext.errors import GreamError
from gream_ext.pipeline import table
from gream_ext.pipeline.execute import duration, lock
from gream_ext.pipeline.run import read_pipeline
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, write_json

LOG: list[str] = []


@dataclass(frozen=True)
class WriteSettings:
    text: str = option(help="what")
    size: int = option(1, help="how large")


def stage(name: str, reads: tuple[str, ...] = ()) -> Stage:
    def run(workspace: Workspace, settings: WriteSettings) -> None:
        LOG.append(name)
        if settings.text == "interrupt":
            raise KeyboardInterrupt
        if settings.text == "fail":
            raise GreamError("this failed")
        write_json(workspace.path(name), [settings.text, *(workspace.path(read).read_text() for read in reads)])

    return Stage(
        name=name,
        settings=WriteSettings,
        run=run,
        reads=lambda workspace, settings: [workspace.path(read) for read in reads],
        writes=lambda workspace, settings: [workspace.path(name)],
        label=lambda settings: name if settings.size == 1 else f"{name} {settings.size}",
    )


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> None:
    LOG.clear()
    made = {"gream_ext.data.stages": stage("prepare"), "gream_ext.items.stages:EMBED": stage("embed", ("prepare",))}
    made["gream_ext.items.stages:BUILD"] = stage("index build", ("embed",))
    real = table.Entry.load
    monkeypatch.setattr(table.Entry, "load", lambda entry: made.get(entry.module) or real(entry))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flow.yaml"
    path.write_text("- prepare: {text: a}\n- embed: {text: b}\n- index build: {text: c}\n")
    return path


def gream_run(file: Path, workspace: Workspace, *more: str) -> int:
    return main(["run", str(file), "--workspace", str(workspace.root), *more])


def test_runs_all_then_nothing_then_what_changed(
    file: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gream_run(file, workspace) == 0
    assert LOG == ["prepare", "embed", "index build"]
    assert "[2/3] embed" in capsys.readouterr().out
    assert gream_run(file, workspace) == 0
    assert LOG == ["prepare", "embed", "index build"]
    assert capsys.readouterr().out.count("up to date") == 3
    file.write_text(file.read_text().replace("text: b", "text: changed"))
    assert gream_run(file, workspace) == 0
    assert LOG[3:] == ["embed", "index build"]
    assert gream_run(file, workspace, "--force") == 0
    assert LOG[5:] == ["prepare", "embed", "index build"]


@pytest.mark.parametrize(("how", "code"), [("interrupt", 130), ("fail", 2)])
def test_goes_on_from_the_last_finished_step(file: Path, workspace: Workspace, how: str, code: int) -> None:
    good = file.read_text()
    file.write_text(good.replace("text: b", f"text: {how}"))
    assert gream_run(file, workspace) == code
    file.write_text(good)
    assert gream_run(file, workspace) == 0
    assert LOG == ["prepare", "embed", "embed", "index build"]


def test_dry_run_runs_nothing(file: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert gream_run(file, workspace, "--dry-run") == 0
    assert not LOG and not workspace.root.exists()
    gream_run(file, workspace)
    file.write_text(file.read_text().replace("text: b", "text: changed"))
    capsys.readouterr()
    gream_run(file, workspace, "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1].split("  ")[0] for line in lines] == ["up to date", "run", "run"]
    assert [line.partition("(")[2] for line in lines] == ["", "other settings: text)", "after embed)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- prepare: {text: a}\n- embd: {text: b}\n", "step 2: unknown stage 'embd': did you mean 'embed'?"),
        ("- prepare: {text: a}\n- embed: {txt: b}\n", r"step 2 \(embed\): unknown setting 'txt'; did you mean 'text'?"),
        ("- prepare: {text: a}\n- embed: {text: b, size: big}\n", r"step 2 \(embed\): 'size' must be a whole number"),
        ("- prepare\n", r"step 1 \(prepare\): 'text' must be given"),
        ("- prepare: [1]\n", "must be a mapping"),
        ("- {prepare: {text: a}, embed: {text: b}}\n", "must be one stage"),
        ("- 3\n", "must be one stage"),
        ("prepare: {text: a}\n", "must be a list"),
        ("", "must be a list"),
        ("- prepare: {text: a\n", "is not valid YAML"),
        ("[" * 20_000, "is not valid YAML"),
        (f"- embed: {{text: a, size: {'7' * 5000}}}\n", "is not valid YAML"),
        (f"- embed: {{text: a, size: {'7' * 400}}}\n", "'size' must be a whole number"),
        ("- run: {pipeline: x}\n", "cannot run a pipeline"),
        (
            "- prepare: {text: a}\n- embed: {text: b}\n- prepare: {text: c}\n",
            "step 3 .prepare. is there already as step 1",
        ),
    ],
)
def test_a_wrong_file_is_one_error_before_anything_runs(
    file: Path, workspace: Workspace, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(text)
    with pytest.raises(GreamError, match=said) as error:
        read_pipeline(file)
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)
    assert gream_run(file, workspace) == 2
    assert not LOG and not workspace.root.exists()


def test_one_seed_for_every_step_that_has_one_unless_the_file_says_another(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("- corpus align\n- corpus reason: {seed: 7}\n- sft\n- rl\n- embed: {text: b}\n")
    seeds = [getattr(step.settings, "seed", "none") for step in read_pipeline(file, seed=3)]
    assert seeds == [3, 7, 3, 3, "none"]
    assert read_pipeline(file)[2].settings.seed is None


def test_until_stops_after_a_step(file: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(file), "--workspace", str(workspace.root), "--until"]
    assert main([*command, "embed"]) == 0
    assert LOG == ["prepare", "embed"]
    assert main([*command, "evaluate"]) == 2
    assert "prepare, embed, index build" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GreamError, match="cannot be read"):
        read_pipeline(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"- prepare: {text: \xe9}")
    with pytest.raises(GreamError, match="is not valid YAML"):
        read_pipeline(tmp_path / "latin.yaml")


HOLD = """
import sys
from gream_ext.pipeline.execute import lock
from gream_ext.workspace import Workspace
with lock(Workspace(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_refuse_each_other_and_a_dead_one_leaves_no_lock(
    file: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin and holder.stdout
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        assert gream_run(file, workspace) == 2
        assert f"is in use by process {holder.pid} on " in capsys.readouterr().err
        assert not LOG
        holder.kill()
        holder.wait()
    assert gream_run(file, workspace) == 0


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GreamError, match="cannot be written"), lock(Workspace(tmp_path / "file" / "x")):
        pass


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (245.4, "4 min 05 s"), (7380, "2 h 03 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
