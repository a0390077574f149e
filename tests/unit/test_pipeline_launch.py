"""Launching: log, progress, what a failure says; none of its processes is left, and no other is touched."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from gream_ext.pipeline import processes
from gream_ext.pipeline.launch import LaunchError, Progress, bar_progress, child_environment, failure, launch, phase_of
from gream_ext.pipeline.processes import MARK, belonging, mark, scratch, sweep
from gream_ext.workspace import Workspace


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


FAMILY = """
    import os, subprocess, sys, time
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    # A daemon: a session of its own, its parent gone, deaf to SIGTERM.
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    start = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {deaf!r}], start_new_session=True)"
    subprocess.run([sys.executable, "-c", start])
    # One that hides its environment and its name, as Ray's agents do, but has a file of the scratch folder open.
    open(os.path.join(os.environ["RAY_TMPDIR"], "agent.log"), "w").write("x")
    with open(os.path.join(os.environ["RAY_TMPDIR"], "agent.log")) as log:
        subprocess.Popen(sleep, env={}, stdin=log, start_new_session=True)
    subprocess.Popen(sleep)
"""


@pytest.fixture
def bystander(tmp_path: Path) -> "subprocess.Popen[bytes]":
    """A process of another workspace."""
    other = child_environment(Workspace(tmp_path / "other"))
    process = subprocess.Popen(python("import time; time.sleep(600)"), env=other)
    yield process  # type: ignore[misc]
    process.kill()
    process.wait()


def test_output_goes_to_the_log_and_bars_to_the_bar(workspace: Workspace) -> None:
    seen: list[str] = []
    launch(
        python(r"""
            import sys
            print("first", flush=True)
            print("  0%|    | 0/3 [00:00<?]\r 33%|█   | 1/3 [00:01<00:02]\r", end="", file=sys.stderr, flush=True)
            print("\x1b[31mcolour\x1b[0m é"); sys.stdout.buffer.write(b"\xff no newline")
        """),
        name="x",
        workspace=workspace,
        progress=lambda line: seen.append(line) or bar_progress(line, ""),  # type: ignore[func-returns-value]
    )
    log = workspace.log("x").read_text().splitlines()
    assert log[0].startswith("$ ") and log[-3:] == ["first", "colour é", "� no newline"]
    assert any("| 1/3 [" in line for line in seen)
    assert not scratch(workspace).exists()


def test_reads_bars() -> None:
    assert bar_progress(" 40%|████      | 4/10 [00:03<00:04,  1.3it/s]", "") == Progress(4, 10)
    assert bar_progress("Training Progress:   5%|▌  | 1/20 [00:03<00:04]", "Training Progress") == Progress(1, 20)
    assert bar_progress("Loading:  40%|████      | 4/10 [00:03<00:04,  1.3it/s]", "") is None
    assert bar_progress("loss 0.4", "") is None
    assert bar_progress("(Runner pid=7, ip=1.2.3.4) Training:  50%|██  | 1/2 [00:07<00:07]", "Training") == Progress(
        1, 2
    )
    named = "Running tokenizer on dataset (num_proc=2):  40%|████      | 4/10 [00:03<00:04,  1.3it/s]"
    assert phase_of(named) == Progress(phase="Running tokenizer on dataset (num_proc=2) 40%")
    assert phase_of(" 40%|████      | 4/10 [00:03<00:04,  1.3it/s]") is None and phase_of("loss 0.4") is None


def test_in_a_pipe_the_bar_is_lines_and_says_the_phase_until_there_are_steps(workspace: Workspace) -> None:
    code = """
        import sys
        from pathlib import Path
        from gream_ext.pipeline.launch import bar_progress, launch
        from gream_ext.workspace import Workspace
        child = "print('Loading weights:  40%|██  | 4/10 [00:03<00:04]'); print(' 50%|██  | 1/2 [00:07<00:07]')"
        launch([sys.executable, "-c", child], name="sft", workspace=Workspace(Path(sys.argv[1])),
               progress=lambda line: bar_progress(line, ""), phase="starting LLaMA-Factory")
    """
    done = subprocess.run([*python(code), str(workspace.root)], capture_output=True, text=True, check=True)
    assert "\r" not in done.stderr
    said = done.stderr.splitlines()
    assert said[0].startswith("sft: starting LLaMA-Factory, 00:0")
    assert said[-1].startswith("sft: 1 of 2 steps, 00:0")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux's signal")
def test_a_launcher_ends_with_gream_also_by_kill_9(workspace: Workspace, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = (
        "import sys; from pathlib import Path; from gream_ext.pipeline.launch import launch\n"
        "from gream_ext.workspace import Workspace\n"
        f"launch([sys.executable, '-c', {child!r}], name='x', workspace=Workspace(Path(sys.argv[1])))"
    )
    gream = subprocess.Popen([sys.executable, "-c", code, str(workspace.root)])
    for _ in range(1200):
        if pid.exists() and pid.read_text():
            break
        time.sleep(0.05)
    launcher = psutil.Process(int(pid.read_text()))
    gream.kill()
    gream.wait()
    psutil.wait_procs([launcher], timeout=60)
    assert not launcher.is_running() or launcher.status() == psutil.STATUS_ZOMBIE


def test_a_failure_says_why_and_where_the_log_is(workspace: Workspace) -> None:
    with pytest.raises(LaunchError) as error:
        launch(python("print('many words'); raise ValueError('wrong key: gamma')"), name="x", workspace=workspace)
    said = str(error.value).splitlines()
    assert said == [
        f"x: the launcher ended with exit code 1; its log is {workspace.log('x')}",
        "  ValueError: wrong key: gamma",
    ]
    assert error.value.exit_code == 1
    assert "Traceback" in workspace.log("x").read_text()


def test_telling_lines() -> None:
    output = ["(TaskRunner pid=12) ray.exceptions.RayTaskError(X): y", "[rank0]: torch.OutOfMemoryError: big", "bye"]
    assert failure("rl", -9, output, Path("l")).splitlines() == [
        "rl: the launcher was ended by SIGKILL; its log is l",
        "  torch.OutOfMemoryError: big",
    ]
    assert failure("rl", 3, ["a", "b", "", "c", "d"], Path("l")).splitlines()[1:] == ["  b", "  c", "  d"]


def test_the_environment_of_a_launcher(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    launch(python("import json, os; print(json.dumps(dict(os.environ)))"), name="x", workspace=workspace)
    there = json.loads(workspace.log("x").read_text().splitlines()[-1])
    assert there["OMP_NUM_THREADS"] == "7", "what the user says holds"
    assert there["RAY_ADDRESS"] == "local", "but a Ray cluster that happens to run is not joined"
    assert there["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert len(there["RAY_TMPDIR"]) < 60, "the paths of sockets are limited"


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_nothing_is_left_when_the_launcher_ends(
    workspace: Workspace, bystander: "subprocess.Popen[bytes]", end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    command = python(FAMILY + f"\n    {end}")
    if end:
        with pytest.raises(LaunchError):
            launch(command, name="x", workspace=workspace)
    else:
        launch(command, name="x", workspace=workspace)
    assert not belonging(workspace)
    assert bystander.poll() is None


CALLER = """
    import sys
    from gream_ext.cli import main
    from gream_ext.pipeline import processes, table
    from gream_ext.pipeline.launch import launch
    from gream_ext.pipeline.settings import dataclasses
    from gream_ext.stage import Stage
    settings = dataclasses.make_dataclass("Settings", [], frozen=True)
    run = lambda workspace, settings: launch([sys.executable, "-c", sys.argv[2]], name="x", workspace=workspace)
    stage = Stage("embed", settings, run, writes=lambda workspace, settings: [workspace.path("made")])
    table.Entry.load = lambda entry: stage
    processes.GRACE = float(sys.argv[3])
    sys.exit(main(["embed", "--workspace", sys.argv[1]]))
"""


def start_caller(workspace: Workspace, grace: float) -> "subprocess.Popen[bytes]":
    """A `gream` that launches the family and waits; returns when all of them are there."""
    family = textwrap.dedent(FAMILY) + "\nprint('ready', flush=True)\ntime.sleep(600)"
    workspace.root.mkdir(parents=True, exist_ok=True)
    caller = subprocess.Popen([*python(CALLER), str(workspace.root), family, str(grace)])
    until(lambda: workspace.log("x").exists() and "\nready" in workspace.log("x").read_text())
    return caller


def until(condition: "object", seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_nothing_is_left_after_an_interruption(
    workspace: Workspace, bystander: "subprocess.Popen[bytes]", number: int, code: int
) -> None:
    caller = start_caller(workspace, grace=0.5)
    assert len(belonging(workspace)) == 4
    caller.send_signal(number)
    time.sleep(0.2)
    caller.send_signal(number)  # an impatient user does not stop the cleaning
    assert caller.wait(60) == code
    assert not belonging(workspace) and not scratch(workspace).exists()
    assert bystander.poll() is None


def test_after_kill_9_the_next_run_removes_what_was_left_and_only_that(
    workspace: Workspace, bystander: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.5)
    caller = start_caller(workspace, grace=0.5)
    left = belonging(workspace)
    caller.kill()
    caller.wait()
    assert len(left) == 4 and all(process.is_running() for process in left)
    launch(python("print('next')"), name="y", workspace=workspace)
    psutil.wait_procs(left, timeout=1)
    assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert bystander.poll() is None


def test_the_caller_and_its_parents_are_never_ended(workspace: Workspace) -> None:
    """A launcher started from inside a launched process does not end that."""
    code = (
        "from gream_ext.pipeline.processes import sweep; from gream_ext.workspace import Workspace; import sys;"
        "print(len(sweep(Workspace(sys.argv[1]))))"
    )
    environment = {**os.environ, MARK: mark(workspace)}
    done = subprocess.run([sys.executable, "-c", code, str(workspace.root)], env=environment, capture_output=True)
    assert done.stdout == b"0\n"
    assert sweep(workspace) == []
