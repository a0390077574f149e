"""The hook that torch calls: harmless, cheap, and switched off when the user says so."""

import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gream_ext.plugins import autoload


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """A ``sys.meta_path`` of our own, without our finder."""
    finders = [finder for finder in sys.meta_path if not isinstance(finder, autoload.LlamaFactoryFinder)]
    monkeypatch.setattr(sys, "meta_path", finders)
    monkeypatch.delenv(autoload.SWITCH, raising=False)
    before = set(sys.modules)
    yield finders
    # Not by monkeypatch, which would put the look-alike back.
    for name in set(sys.modules) - before:
        if name.split(".")[0] == "llamafactory":
            del sys.modules[name]


@pytest.fixture
def framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Something that looks like LLaMA-Factory, and adaptations for it."""
    package = tmp_path / "llamafactory"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parser.py").write_text("value = 'theirs'")
    (package / "other.py").write_text("value = 'theirs'")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "llamafactory"]:
        monkeypatch.delitem(sys.modules, name)
    ours = types.ModuleType("gream_ext.plugins.llamafactory")
    ours.ADAPTATIONS = {"llamafactory.parser": lambda module: setattr(module, "value", "ours")}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gream_ext.plugins.llamafactory", ours)
    return ours


def test_torch_finds_it() -> None:
    (found,) = [entry for entry in entry_points(group="torch.backends") if entry.name == "gream"]
    assert found.load() is autoload.install


def test_installs_one_finder(path: list[object]) -> None:
    autoload.install()
    autoload.install()
    assert isinstance(path[0], autoload.LlamaFactoryFinder)
    assert sum(isinstance(finder, autoload.LlamaFactoryFinder) for finder in path) == 1


@pytest.mark.parametrize("value", ["0", "false", "No", " off "])
def test_switch(path: list[object], monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(autoload.SWITCH, value)
    autoload.install()
    assert not any(isinstance(finder, autoload.LlamaFactoryFinder) for finder in path)


def test_adapts_the_modules_it_names_and_no_other(path: list[object], framework: types.ModuleType) -> None:
    autoload.install()
    assert importlib.import_module("llamafactory.parser").value == "ours"
    assert importlib.import_module("llamafactory.other").value == "theirs"
    assert importlib.reload(sys.modules["llamafactory.parser"]).value == "ours"


def test_says_what_failed_and_leaves_the_module_as_it_is(
    path: list[object], framework: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(module: types.ModuleType) -> None:
        raise RuntimeError("no such name")

    framework.ADAPTATIONS = {"llamafactory.parser": fail}  # type: ignore[attr-defined]
    autoload.install()
    assert importlib.import_module("llamafactory.parser").value == "theirs"
    assert capsys.readouterr().err == "gream: LLaMA-Factory is left as it is, RuntimeError: no such name\n"


def test_never_raises(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(autoload, "switched_off", lambda: 1 / 0)
    autoload.install()
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_import_torch_brings_nothing_of_ours_but_this_module() -> None:
    code = (
        "import sys; before = set(sys.modules); import gream_ext.plugins.autoload as autoload; autoload.install()\n"
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names),"
        "[name for name in sys.modules if name.startswith('gream')])"
    )
    said = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['gream_ext'] ['gream_ext', 'gream_ext.plugins', 'gream_ext.plugins.autoload']"
