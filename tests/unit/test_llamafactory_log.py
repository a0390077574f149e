"""The log of the trained steps: whole lines, no step twice."""

from pathlib import Path

import pytest

from gream_ext.errors import GreamError
from gream_ext.plugins.llamafactory.log import LOG_NAME, append_log, read_log, start_log


def records(*steps: int) -> list[dict[str, float]]:
    return [{"step": step, "loss": step / 10} for step in steps]


def test_append_and_read(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    start_log(tmp_path, 0)
    append_log(tmp_path, records(1, 2))
    append_log(tmp_path, records(3))
    assert read_log(tmp_path) == records(1, 2, 3)


def test_resume_drops_what_was_trained_after_the_checkpoint(tmp_path: Path) -> None:
    append_log(tmp_path, records(1, 2, 3))
    with (tmp_path / LOG_NAME).open("a") as log:
        log.write('{"step": 4, "lo')  # killed while writing
    assert read_log(tmp_path) == records(1, 2, 3)
    start_log(tmp_path, 2)
    append_log(tmp_path, records(3))
    assert read_log(tmp_path) == records(1, 2, 3)


def test_a_new_run_starts_empty(tmp_path: Path) -> None:
    append_log(tmp_path, records(1, 2))
    start_log(tmp_path, 0)
    assert read_log(tmp_path) == []


def test_no_nan_in_json(tmp_path: Path) -> None:
    append_log(tmp_path, [{"step": 1, "loss": float("nan")}])
    assert read_log(tmp_path) == [{"step": 1, "loss": None}]


def test_damage_is_named(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).write_text("nonsense\n")
    with pytest.raises(GreamError, match=r"curriculum_log.jsonl is damaged"):
        read_log(tmp_path)
