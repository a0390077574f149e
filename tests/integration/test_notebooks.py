"""The notebooks' code runs from top to bottom, without Jupyter; what is stored in them was printed by the same code."""

import contextlib
import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
CODE = {path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"] for path in NOTEBOOKS.glob("*.ipynb")}
pytestmark = pytest.mark.integration


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], str]]:
    """Each code cell with what it printed, all in one namespace, in the notebooks' folder."""
    monkeypatch.chdir(NOTEBOOKS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    space: dict[str, Any] = {"__name__": "__main__"}
    done = []
    for cell in CODE[name]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile("".join(cell["source"]), f"{name}:{cell['id']}", "exec"), space)
            done.append((cell, printed.getvalue()))
    return done


def stored(cell: dict[str, Any]) -> str:
    return "".join("".join(one["text"]) for one in cell["outputs"] if one.get("name") == "stdout")


def test_the_paper_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    for cell, printed in run("paper_by_hand", monkeypatch):
        assert printed == stored(cell)


def test_reading_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, intervals, log = run("reading_a_run", monkeypatch)
    assert intervals[1] == stored(intervals[0]) and log[1] == stored(log[0])


@pytest.mark.skipif(find_spec("llamafactory") is None, reason="LLaMA-Factory is not installed here")
def test_from_a_table_to_recommendations(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [printed for _, printed in run("table_to_recommendations", monkeypatch)]
    assert any(len(printed.splitlines()) == 6 and printed.startswith("watched:") for printed in cells)


@pytest.mark.parametrize("name", CODE)
def test_a_notebook_was_executed_and_is_of_no_machine(name: str) -> None:
    text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    for cell in CODE[name]:
        assert cell["cell_type"] != "code" or cell["execution_count"] is not None
        assert all(one["output_type"] != "error" for one in cell.get("outputs", []))
    assert "/root" not in text and "/home/" not in text and "/work" not in text
    assert "made up" in text or name == "paper_by_hand"
