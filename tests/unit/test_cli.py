"""The command line: what it prints, its exit codes, and that it loads only what it needs."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gream_ext import cli
from gream_ext.cli import main, parser
from gream_ext.errors import GreamError
from gream_ext.pipeline import table
from gream_ext.pipeline.settings import build
from gream_ext.stage import Stage, option


@dataclass(frozen=True)
class AllSettings:
    path: Path = option(help="a file")
    count: int = option(5, help="how many, 100 %")
    rate: float = option(0.5, help="how fast")
    name: str | None = option(None, help="how called")
    dry: bool = option(True, help="whether")
    levels: tuple[int, ...] = option((1, 5), help="which")
    mode: str = option("direct", help="how", choices=("direct", "reason"))
    keys: dict[str, Any] = option({}, help="what else")


def collecting(seen: list[Any]) -> Stage:
    return Stage(name="embed", settings=AllSettings, run=lambda workspace, settings: seen.append(settings))


def parse(*words: str) -> AllSettings:
    stage = collecting([])
    parsed = vars(parser("embed", stage).parse_args(list(words)))
    return build(
        AllSettings, {key: value for key, value in parsed.items() if key not in ("workspace", "force")}, "embed"
    )


def test_options_come_from_the_settings_with_their_types() -> None:
    given = parse(
        *("--path", "a b", "--count", "7", "--rate", "1e-4", "--name", "x", "--no-dry", "--levels", "2", "3"),
        *("--mode", "reason", "--keys", "a=1", "b.c=[x, true]", "--keys", "d=e=f"),
    )
    assert given == AllSettings(
        Path("a b"), 7, 1e-4, "x", False, (2, 3), "reason", {"a": 1, "b.c": ["x", True], "d": "e=f"}
    )
    assert parse("--path", "p") == AllSettings(Path("p"))
    assert parse("--path", "p", "--name", "none").name is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--path"),
        (("--path", "p", "--count", "many"), "'count' must be a whole number, not 'many'"),
        (("--path", "p", "--count", "5.5"), "'count' must be a whole number, not '5.5'"),
        (("--path", "p", "--rate", "fast"), "'rate' must be a number"),
        (("--path", "p", "--mode", "both"), "'mode' must be one of direct, reason, not 'both'"),
        (("--path", "p", "--keys", "a"), "'a' is not KEY=VALUE"),
        (("--path", "p", "--coun", "5"), "--coun"),
        (("--path", "p", "stray"), "stray"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(
    words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table.Entry, "load", lambda entry: collecting([]))
    assert main(["embed", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("gream: ") and error.count("\n") == 1


def test_help_shows_options_defaults_and_choices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table.Entry, "load", lambda entry: collecting([]))
    with pytest.raises(SystemExit) as end:
        main(["embed", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for part in (
        "--path PATH",
        "how many, 100 % (default: 5)",
        "--no-dry",
        "{direct,reason}",
        "(default: 1 5)",
        "--force",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prepar"], "did you mean 'prepare'?"),
        (["index"], "needs one of: build, add, report"),
        (["--wat"], "unknown command"),
    ],
)
def test_unknown_commands(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in table.TABLE)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (GreamError("items.csv line 3: no title: add one"), 2, "gream: items.csv line 3: no title: add one\n"),
        (KeyboardInterrupt(), 130, "gream: interrupted"),
    ],
)
def test_exit_codes(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    def run(workspace: Any, settings: Any) -> None:
        raise raised

    monkeypatch.setattr(table.Entry, "load", lambda entry: Stage(name="embed", settings=AllSettings, run=run))
    assert main(["embed", "--path", "p", "--workspace", str(tmp_path)]) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError(28, "No space left on device"), "gream: output: No space left on device\n"),
        (OSError(5, "full", "a/.items.parquet.x1.part/items.parquet"), "gream: a/items.parquet: full\n"),
        (FileExistsError(17, "File exists", "stages"), "gream: stages: File exists\n"),
        (OSError("no such\nmodel"), "gream: no such model\n"),
        (GreamError("a\nb is missing"), "gream: a b is missing\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    raised: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(workspace: Any, settings: Any) -> None:
        raise raised

    monkeypatch.setattr(cli, "_discard_output", lambda: None)
    monkeypatch.setattr(table.Entry, "load", lambda entry: Stage(name="embed", settings=AllSettings, run=run))
    assert main(["embed", "--path", "p", "--workspace", str(tmp_path)]) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("command", "said"), [(["--help"], "output: No space left"), (["serve", "--port", "nan"], "'port'")]
)
def test_a_full_device_behind_the_output(command: list[str], said: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "gream_ext.cli", *command], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and said.encode() in done.stderr


@pytest.mark.parametrize("name", ["report", "embed", "index build", "evaluate", "export"])
def test_a_workspace_that_is_not_there_is_refused_and_not_made(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        main([*name.split(), "--workspace", str(tmp_path / "typo"), *(["--model", "sft"] * (name == "evaluate"))]) == 2
    )
    assert "gream" in capsys.readouterr().err and not (tmp_path / "typo").exists()


def test_a_workspace_with_a_zero_byte(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--workspace", "a\0b"]) == 2
    assert "must not hold a zero byte" in capsys.readouterr().err


@pytest.mark.parametrize("writes", [True, False])
def test_only_what_goes_on_is_said_to_go_on(
    writes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(workspace: Any, settings: Any) -> None:
        raise KeyboardInterrupt

    made = Stage(name="serve", settings=AllSettings, run=run, writes=lambda *given: [tmp_path / "x"] if writes else [])
    monkeypatch.setattr(table.Entry, "load", lambda entry: made)
    assert main(["serve", "--path", "p", "--workspace", str(tmp_path)]) == 130
    assert ("goes on from here" in capsys.readouterr().err) == writes


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        main(["no such command"])
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_unexpected_exception_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(workspace: Any, settings: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(table.Entry, "load", lambda entry: Stage(name="embed", settings=AllSettings, run=run))
    with pytest.raises(ZeroDivisionError):
        main(["embed", "--path", "p", "--workspace", str(tmp_path)])


def test_naming_the_commands_imports_no_room() -> None:
    code = (
        "import sys; from gream_ext.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'polars', 'transformers', 'yaml', 'tqdm', 'psutil'} & set(sys.modules)\n"
        "rooms = [name for name in sys.modules if name.startswith(('gream_ext.data', 'gream_ext.items'))]\n"
        "assert not heavy and not rooms, (heavy, rooms)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_told_twice_to_stop_it_still_cleans_up() -> None:
    code = (
        "import signal, time\nfrom gream_ext import cli\nsignal.signal(signal.SIGTERM, cli._stop)\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "finally:\n    print('cleaning', flush=True)\n    time.sleep(0.5)\n    print('clean', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in ("ready\n", "cleaning\n"):
            assert process.stdout.readline() == line
            process.terminate()
        assert process.stdout.read() == "clean\n"
    assert process.returncode == cli.TERMINATED
