"""The examples in docstrings, in README and in docs give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ">>> "
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted(ROOT.glob("gream_ext/**/*.py"))
    if EXAMPLE in path.read_text(encoding="utf-8")
]
TEXTS = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))] if EXAMPLE in path.read_text("utf-8")]


@pytest.mark.parametrize("module", MODULES)
def test_docstrings(module: str) -> None:
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_pages(text: Path) -> None:
    found = doctest.testfile(str(text), module_relative=False, encoding="utf-8")
    assert found.attempted and not found.failed
