"""The examples in docstrings, in README and in docs give what they say; commands there are ones that there are."""

import ast
import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest

from tests.support import house

ROOT = Path(__file__).parents[2]
EXAMPLE = ">>> "
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(ROOT.glob("gream_ext/**/*.py"))
    if EXAMPLE in path.read_text(encoding="utf-8")
]
TEXTS = [
    path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if EXAMPLE in path.read_text("utf-8")
]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_pages(text: Path) -> None:
    found = doctest.testfile(str(text), module_relative=False, encoding="utf-8")
    assert found.attempted and not found.failed


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
COMMAND = re.compile(r"^\s*(?:\S+/bin/)?gream (?![a-z ]*\.\.\.)([a-z].*?)\\?$", re.MULTILINE)
FENCE = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of(page: Path) -> list[str]:
    blocks = "\n".join(FENCE.findall(page.read_text(encoding="utf-8"))).replace("\\\n", " ")
    return [found for found in COMMAND.findall(blocks) if "…" not in found and "$" not in found]


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=lambda page: page.stem)
def test_commands_on_pages_are_ones_that_there_are(page: Path) -> None:
    """Each with options that the command has, of the right types; nothing is run."""
    from gream_ext.cli import _command, parser
    from gream_ext.pipeline.settings import build
    from gream_ext.pipeline.table import TABLE

    for line in commands_of(page):
        words = shlex.split(line, comments=True)
        words = words[: next((number for number, word in enumerate(words) if word in ("&&", "|", ">", ";")), None)]
        name, arguments = _command(words)
        stage = TABLE[name].load()
        given = vars(parser(name, stage).parse_args(arguments))
        for ours in ("workspace", *(() if "force" in stage.settings.__dataclass_fields__ else ("force",))):
            given.pop(ours, None)
        build(stage.settings, given, line)


CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if CODE.search(page.read_text("utf-8"))], ids=lambda page: page.stem
)
def test_python_on_pages_imports_what_there_is(page: Path) -> None:
    for block in CODE.findall(page.read_text(encoding="utf-8")):
        found = [] if EXAMPLE in block else list(ast.walk(ast.parse(block)))
        for node in found:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("gream_ext"):
                for one in node.names:
                    assert house.defines(str(node.module), one.name), f"{node.module} has no {one.name}"


@pytest.mark.parametrize("pipeline", sorted(ROOT.glob("examples/**/*.yaml")), ids=lambda path: path.stem)
def test_pipeline_files_are_whole(pipeline: Path) -> None:
    from gream_ext.pipeline.run import read_pipeline

    if pipeline.read_text(encoding="utf-8").lstrip("# ").find("\n- prepare") >= 0:
        assert len(read_pipeline(pipeline)) > 3
