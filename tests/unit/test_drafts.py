"""What a killed writer leaves: swept by the next command, and seen by no fingerprint meanwhile."""

import errno
import resource
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gream_ext.drafts import REPLACED, UMASK, sweep_drafts, whole
from gream_ext.pipeline.execute import execute
from gream_ext.pipeline.record import fingerprint
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace

WRITER = """
import sys, time
from pathlib import Path
from gream_ext.workspace import whole
with whole(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@dataclass(frozen=True)
class Settings:
    pass


def writer(path: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "writing\n"
    return child


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob(".*.part"))


def test_a_dead_writers_draft_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.jsonl").write_text("whole")
    alone = fingerprint(tmp_path / "corpus")
    child = writer(tmp_path / "corpus" / "a.jsonl")
    try:
        assert len(drafts(tmp_path / "corpus")) == 1
        assert fingerprint(tmp_path / "corpus") == alone, "a draft is nobody's input"
        assert sweep_drafts(tmp_path) == [] and len(drafts(tmp_path / "corpus")) == 1
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert len(drafts(tmp_path / "corpus")) == 1, "kill -9 left it"
    assert sweep_drafts(tmp_path) == [tmp_path / "corpus" / "a.jsonl"]
    assert drafts(tmp_path / "corpus") == [] and (tmp_path / "corpus" / "a.jsonl").read_text() == "whole"


def test_the_next_command_sweeps_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    child = writer(tmp_path / "deep" / "er" / "b.json")
    child.send_signal(signal.SIGKILL)
    child.wait()
    (tmp_path / ".older.x1y2.part").mkdir()  # of a version that took no locks

    def run(workspace: Workspace, settings: Settings) -> None:
        workspace.path("c").touch()

    stage = Stage("make", Settings, run, writes=lambda workspace, settings: [workspace.path("c")])
    execute(stage, Workspace(tmp_path), Settings())
    assert f"removed an unfinished {tmp_path / 'deep' / 'er' / 'b.json'} of a run" in capsys.readouterr().err
    assert list(tmp_path.rglob(".*.part")) == []


def test_a_folder_whose_exchange_was_cut_short_is_put_in_its_place(tmp_path: Path) -> None:
    """Killed between putting the old folder aside and the new one in its place: the new one was whole."""
    folder = tmp_path / ".sft.abc.part"
    for name, text in ((REPLACED, "old"), ("sft", "new")):
        (folder / name).mkdir(parents=True)
        (folder / name / "weights").write_text(text)
    sweep_drafts(tmp_path)
    assert (tmp_path / "sft" / "weights").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"], "and nothing is left of the old one"


def test_writers_and_a_sweeper_at_once_lose_nothing(tmp_path: Path) -> None:
    done, swept = threading.Event(), []

    def sweep() -> None:
        while not done.is_set():
            sweep_drafts(tmp_path)
        swept.append(True)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()

    def write(number: int) -> None:
        for turn in range(40):
            with whole(tmp_path / f"{number}") as draft:
                draft.write_text(f"{turn}")

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
    done.set()
    sweeper.join()
    assert swept, "a draft that goes meanwhile is no trouble"
    assert [(tmp_path / f"{number}").read_text() for number in range(3)] == ["39"] * 3
    assert drafts(tmp_path) == []


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for turn in range(20):
        with whole(tmp_path / "x") as draft:
            draft.write_text(f"{turn}")
    sweep_drafts(tmp_path)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before


def write_plain(path: Path) -> None:
    path.write_bytes(bytes(100_000))


def write_polars(path: Path) -> None:
    import polars as pl

    pl.DataFrame({"x": np.random.default_rng(0).random(50_000)}).write_parquet(path)


def write_safetensors(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(50_000)}, path)


def write_numpy(path: Path) -> None:
    np.save(path, np.zeros(50_000))


@pytest.mark.parametrize("write", [write_plain, write_polars, write_safetensors, write_numpy])
def test_a_file_that_cannot_be_written_to_its_end_is_named(write: Callable[[Path], None], tmp_path: Path) -> None:
    """As on a full disk; here no file may be longer than 10,000 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "file.npy"
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError) as error, whole(path) as draft:
            write(draft)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    named = error.value.filename
    assert error.value.errno in (errno.EFBIG, errno.EIO) and Path(named).name == path.name
    assert not list(tmp_path.iterdir())


def test_files_have_the_modes_that_the_umask_says(tmp_path: Path) -> None:
    with whole(tmp_path / "model") as draft:
        draft.mkdir(mode=0o700)
        write_safetensors(draft / "model.safetensors")
        (draft / "model.safetensors").chmod(0o600)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o777 & ~UMASK
    assert stat.S_IMODE((tmp_path / "model" / "model.safetensors").stat().st_mode) == 0o666 & ~UMASK
