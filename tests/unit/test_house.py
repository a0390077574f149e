"""The house rules that a machine can check."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import gream_ext
from gream_ext.pipeline.settings import convert, default_of, is_required, kinds
from gream_ext.pipeline.table import TABLE
from gream_ext.stage import Stage

ROOT = Path(gream_ext.__file__).parent.parent
MODULES = sorted((ROOT / "gream_ext").rglob("*.py"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = (
    "torch",
    "transformers",
    "faiss",
    "matplotlib",
    "sentence_transformers",
    "verl",
    "llamafactory",
    "ray",
    "hydra",
    "openai",
)


@pytest.mark.parametrize("name", TABLE)
def test_every_entry_of_the_table_is_a_stage_whose_settings_can_be_options(name: str) -> None:
    stage = TABLE[name].load()
    assert isinstance(stage, Stage) and stage.name == name
    assert dataclasses.is_dataclass(stage.settings)
    assert stage.settings.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for option, (field, kind) in kinds(stage.settings).items():
        assert field.metadata.get("help"), f"{option} has no help"
        assert option not in ("workspace", "help")
        if not is_required(field):
            default = default_of(field)
            assert default is None or convert(kind, default) == default, f"the default of {option} is not of its type"
            assert default is not None or kind.optional


def test_declaring_a_stage_imports_nothing_heavy() -> None:
    modules = sorted({entry.module.partition(":")[0] for entry in TABLE.values()})
    code = (
        "import importlib, sys\n"
        "for module in sys.argv[2:]:\n"
        "    importlib.import_module(module)\n"
        "    loaded = [name for name in sys.argv[1].split(',') if name in sys.modules]\n"
        "    assert not loaded, f'{module} imports {loaded}'"
    )
    done = subprocess.run([sys.executable, "-c", code, ",".join(HEAVY), *modules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-600:]


def test_importing_the_rewards_loads_only_what_they_are_made_of() -> None:
    """The first promise to users of other projects."""
    code = "import sys; before = set(sys.modules); import gream_ext.rewards; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("gream_ext")}
    assert ours <= {"gream_ext", "gream_ext.rewards", "gream_ext.response", "gream_ext.identifiers"}
    foreign = {name.split(".")[0] for name in loaded - ours} - set(sys.stdlib_module_names)
    assert not foreign


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_is_longer_than_250_lines(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_module_says_what_it_is_and_none_unpickles(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert not text.strip() or text.lstrip().startswith(('"""', 'r"""'))
    assert not re.search(
        r"^\s*(import|from) (c?pickle|dill|joblib|shelve)\b|allow_pickle=True|torch\.load\(", text, re.M
    )


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    homes = "|".join(["root", "work", "home", "Users"])
    machine = re.compile(rf"(?<![\w.$}}~-])/(?:{homes})/\w|/tmp/" + "work")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in tracked()
        if path.suffix not in (".png", ".gz", ".parquet")
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1)
        if machine.search(line)
    ]
    assert not found, "\n".join(found)


def test_versions_and_pins_agree() -> None:
    assert PROJECT["project"]["version"] == gream_ext.__version__
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"]]
    for extra in ("sft", "rl", "report", "enrich", "serve", "dev", "docs"):
        wanted += extras[extra]
    names = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in wanted}  # type: ignore[index]
    assert names <= pinned
    from gream_ext.plugins.llamafactory import internals as llamafactory
    from gream_ext.plugins.verl import internals as verl

    assert pins["llamafactory"] in llamafactory.SUPPORTED
    assert pins["verl"] in verl.SUPPORTED


def test_shell_scripts_are_valid() -> None:
    for script in (ROOT / "scripts" / "setup_env.sh", ROOT / ".ci" / "run"):
        subprocess.run(["bash", "-n", str(script)], check=True)
        assert script.stat().st_mode & 0o100, f"{script.name} is not executable"
