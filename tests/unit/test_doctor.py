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
DRIVERLESS = ImportError("[sgl_kernel] CRITICAL\n\n- ImportError: libcuda.so.1: cannot open shared object file\n")


def test_the_table() -> None:
    assert table([GOOD, BAD, NONE]).splitlines() == [
        "framework     version        supported       part",
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


def test_a_first_step_that_fails_is_one_line_with_the_cure() -> None:
    def step(folder: Path) -> None:
        raise ImportError("cannot import name 'VideoReader' from 'torchvision.io'\n(somewhere)")

    found = doctor.tried(GOOD, "two steps of SFT", "sft", step)
    assert not found.healthy and found.parts["two steps of SFT"] == (
        "ImportError: cannot import name 'VideoReader' from 'torchvision.io': make the environment by "
        "scripts/setup_gpu_env.sh sft, whose versions were tried together (docs/installation.md)"
    )


def test_a_first_step_is_taken_in_a_folder_that_goes_and_only_where_all_parts_are_there() -> None:
    folders: list[Path] = []
    found = doctor.tried(GOOD, "step", "sft", folders.append)
    assert found.healthy and found.parts == {**GOOD.parts, "step": ""}
    assert not folders[0].exists()
    assert doctor.tried(BAD, "step", "sft", folders.append) == BAD and len(folders) == 1


@pytest.mark.parametrize("driver", [True, False])
def test_kernels_without_a_driver_are_a_fault_only_where_there_is_one(
    driver: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def import_module(name: str) -> None:
        raise DRIVERLESS

    monkeypatch.setattr(doctor, "DRIVER_FILE", tmp_path if driver else tmp_path / "none")
    monkeypatch.setattr(doctor.importlib, "import_module", import_module)
    found = doctor._import_kernels(GOOD, "rollout", "rl", "a.module")
    assert found.healthy != driver
    assert "libcuda.so" in table([found]) and ("setup_gpu_env.sh rl" in table([found])) == driver
