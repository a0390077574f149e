"""What ``gream doctor`` says, and when it fails. The integration tests ask the real frameworks."""

import sys
from pathlib import Path

import pytest

from gream_ext.cli import main
from gream_ext.plugins import doctor
from gream_ext.plugins.doctor import Finding, examine, table

GOOD = Finding("verl", "0.9.1", ("0.9.0", "0.9.1"), {"estimator": "", "recipes": ""})
BAD = Finding("llamafactory", "0.9.9", ("0.9.5",), {"curriculum": "it has no _TRAIN_ARGS: install llamafactory==0.9.5"})
NONE = Finding("sglang")


def test_the_table() -> None:
    assert table([GOOD, BAD, NONE]).splitlines() == [
        "framework     version        supported       ours in it",
        "verl          0.9.1          yes             estimator   in place",
        "                                             recipes     in place",
        "llamafactory  0.9.9          no (0.9.5 are)  curriculum  it has no _TRAIN_ARGS: install llamafactory==0.9.5",
        "sglang        not installed  -               -",
    ]


@pytest.mark.parametrize(("second", "code"), [(NONE, None), (BAD, 1)])
def test_exits_non_zero_when_a_part_did_not_take_place(
    second: Finding, code: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = {"llamafactory": GOOD, "verl": GOOD, "sglang": second}
    monkeypatch.setattr(doctor, "examine", findings.get)
    if code is None:
        assert main(["doctor"]) == 0
    else:
        with pytest.raises(SystemExit) as end:
            main(["doctor"])
        assert end.value.code == code
    assert "in place" in capsys.readouterr().out


def test_a_framework_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine("a_framework_of_tomorrow") == Finding("a_framework_of_tomorrow")


def test_a_framework_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ImportError: operator torchvision::nms does not exist' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(doctor, "CHECKS", {"pytest": lambda: GOOD})
    monkeypatch.setattr(sys, "executable", str(fake))
    found = examine("pytest")
    assert not found.healthy
    assert found.parts == {"import": "it cannot be imported: ImportError: operator torchvision::nms does not exist"}
