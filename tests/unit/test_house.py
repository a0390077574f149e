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
from gream_ext.stage import Later, Stage
from tests.support import house

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


@pytest.mark.parametrize("name", TABLE)
def test_what_a_stage_names_as_its_work_is_there(name: str) -> None:
    stage = TABLE[name].load()
    for function in (stage.run, stage.reads, stage.writes, stage.show):
        if isinstance(function, Later):
            assert house.defines(*function.place.split(":")), function.place


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


SHARED = {"gream_ext", "errors", "words", "hub", "drafts", "progress", "workspace", "stage"}
"""Small files that every room may use; the first is the package itself, for its version."""
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `([\w/]+)` \| .* \| (.*) \| ([\d,]+) \|$", ARCHITECTURE, re.M)
MAP = {name: set(re.findall(r"`([\w/]+)`", others)) for name, others, _ in ROWS}
WALKS = {part.partition("\n")[0]: part for part in ARCHITECTURE.partition("## Four walks")[2].split("\n### ")[1:]}


def test_the_map_has_every_room_and_what_each_imports() -> None:
    for one in house.imports():
        for imported in one.imported & house.modules().keys():
            here, there = house.room(one.importer) or "gream_ext", house.room(imported) or "gream_ext"
            if here in SHARED:
                assert there in SHARED, f"{one.importer} imports {imported}"
            elif there not in SHARED | {here, "extras"}:
                assert there in MAP[here], f"{one.importer} line {one.line}: {imported}, not in the map"
    rooms = {house.room(module) or "gream_ext" for module in house.modules()}
    assert rooms - SHARED - {"extras"} == MAP.keys()


@pytest.mark.parametrize(("room", "lines"), [(name, int(lines.replace(",", ""))) for name, _, lines in ROWS])
def test_the_map_says_how_large_a_room_is(room: str, lines: int) -> None:
    own = [path for module, path in house.modules().items() if house.room(module) == room]
    real = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in own)
    assert abs(real - lines) <= max(50, lines // 5), f"{real} lines: put that into docs/architecture.md"


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_names_functions_that_exist_and_none_twice(title: str) -> None:
    steps = re.findall(r"^\d+\. `([\w.]*):([\w.]+)`", WALKS[title], re.M)
    assert len(steps) == len(re.findall(r"^\d+\.", WALKS[title], re.M)) > 10
    assert len(set(steps)) == len(steps)
    for module, name in steps:
        assert house.defines(f"gream_ext.{module}", name), f"{module} has no {name}"
    rooms = [house.room(f"gream_ext.{module}") for module, _ in steps]
    entered = [room for number, room in enumerate(rooms) if number == 0 or rooms[number - 1] != room]
    told = WALKS[title].partition("Returns to:")[2].partition("\n## ")[0]
    told_rooms = {word for part in re.findall(r"(`[\w/]+`) \(", told) for word in [part.strip("`")]}
    assert {room for room in entered if entered.count(room) > 1} == told_rooms


def test_there_are_four_walks() -> None:
    assert len(WALKS) == 4


def test_no_module_imports_another_in_a_circle() -> None:
    assert not house.circles(inside=False)
    assert not house.circles(inside=True)


MOST_INSIDE = 55
"""Imports inside functions. Let them become no more."""
HEAVY_LIBRARIES = {"torch", "transformers", "faiss", "polars", "tokenizers", "safetensors", "numpy", "yaml", "tqdm"}
OPTIONAL = {
    "openai", "gguf", "sentence_transformers", "huggingface_hub", "httpx", "ray", "fastapi", "starlette", "uvicorn",
    "matplotlib", "jinja2",
}  # fmt: skip
FRAMEWORKS = {"verl", "llamafactory", "hydra", "sglang"}
NAMED = {
    "gream_ext.cli": "`gream --help` shall not wait for them",
    "gream_ext.plugins.verl.cpu.support": "patched names are looked up when a worker asks for them",
    # Needless, in rooms that are being rebuilt: at the top of the file they would cost nothing.
    "gream_ext.items.encoder_transformer": "",
}
"""Modules with imports inside functions that load no library, and why."""


def test_imports_inside_functions_have_a_reason_and_become_no_more() -> None:
    inside = [one for one in house.imports() if one.inside]
    assert len(inside) <= MOST_INSIDE
    reasons = HEAVY_LIBRARIES | OPTIONAL | FRAMEWORKS
    without = [
        f"{one.importer} line {one.line}: {', '.join(one.imported)}"
        for one in inside
        if one.importer not in NAMED
        and not reasons & (set().union(*map(house.loaded_by, one.imported)) - house.loaded_by(one.importer))
    ]
    assert not without, without


def test_nothing_below_the_pipeline_reads_the_records_of_stages() -> None:
    """What a later stage must know about a file is written into that file or beside it."""
    reads = re.compile(r"""["'/]stages["'/]|read_record|record_path|pipeline\.record""")
    above = ("pipeline", "cli", "extras")
    found = [
        module
        for module, path in house.modules().items()
        if house.room(module).partition("/")[0] not in above and reads.search(path.read_text(encoding="utf-8"))
    ]
    assert not found


PAPER_MAP = (ROOT / "docs" / "paper_map.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("row", re.findall(r"^\| (?!paper|---)(.*) \|$", PAPER_MAP.partition("## Symbols")[0], re.M))
def test_what_the_paper_map_names_is_there(row: str) -> None:
    """Each function and test of the table: a module, a name within one, or files."""
    _, _, functions, tests = re.sub(r"\(.*?\)", "", row).split(" | ")
    for name in re.findall(r"`([^`]+)`", functions):
        if "/" in name or name.endswith(".yaml"):
            wanted = re.sub(r"\{(.*?)\}", "*", name)
            assert list(ROOT.glob(wanted)) or (ROOT / name).exists(), name
            continue
        whole = f"gream_ext.{name}"
        split = [(whole[:dot], whole[dot + 1 :]) for dot, letter in enumerate(whole) if letter == "."]
        assert whole in house.modules() or any(house.defines(*one) for one in split), name
    paths = re.findall(r"`([^`]+)`", tests)
    assert paths
    for path in paths:
        assert list(ROOT.glob(path)), path
