"""Command ``doctor``: which frameworks are here, whether we support their versions, and whether our parts are in them.

Each framework is asked in a process of its own, started as its launcher would be: what is said is what a training run
will find, and one framework that cannot be imported does not hide another.
"""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

from gream_ext.stage import Stage
from gream_ext.workspace import Workspace

ANSWER = "gream-doctor: "
"""Begins the line with the answer; frameworks print other things as well."""


@dataclass(frozen=True)
class DoctorSettings:
    pass


@dataclass(frozen=True)
class Finding:
    """What there is to say of one framework."""

    framework: str
    version: str | None = None
    """None: not installed."""
    supported: tuple[str, ...] = ()
    parts: dict[str, str] = field(default_factory=dict)
    """What we register there → ``""``, or a sentence that says why it did not take place."""

    @property
    def healthy(self) -> bool:
        return not any(self.parts.values())


def check_llamafactory() -> Finding:
    """In this process: the keys, converters, processors and trainer of the curriculum."""
    from gream_ext.plugins.llamafactory import internals, problems

    found = problems()
    return Finding("llamafactory", internals.version(), internals.SUPPORTED, {"curriculum": "; ".join(found)})


def check_verl() -> Finding:
    """In this process: the estimator, the recipes on Hydra's path, the group filter, the CPU platform."""
    from gream_ext.plugins.verl import internals, registered

    parts = {name: said for name, said in registered().items() if name != "version"}
    return Finding("verl", internals.version(), internals.SUPPORTED, parts)


def check_sglang() -> Finding:
    """In this process: whether beam search and answers can be kept to a catalogue. Verl brings other versions along,
    for rollouts; those we leave alone, and nothing is amiss then."""
    from gream_ext.plugins.sglang import internals, problems

    found = problems() if internals.version() in internals.SUPPORTED else {}
    return Finding("sglang", internals.version(), internals.SUPPORTED, found)


CHECKS: dict[str, Callable[[], Finding]] = {
    "llamafactory": check_llamafactory,
    "verl": check_verl,
    "sglang": check_sglang,
}


def examine(framework: str) -> Finding:
    """Ask one framework in a process of its own."""
    if importlib.util.find_spec(framework) is None:
        return Finding(framework)
    done = subprocess.run(
        [sys.executable, "-m", "gream_ext.plugins.doctor", framework],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    for line in done.stdout.splitlines():
        if line.startswith(ANSWER):
            answer = json.loads(line.removeprefix(ANSWER))
            return Finding(**{**answer, "supported": tuple(answer["supported"])})
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    why = f"it cannot be imported: {said[-1] if said else f'exit code {done.returncode}'}"
    return Finding(framework, importlib.metadata.version(framework), parts={"import": why})


def table(findings: list[Finding]) -> str:
    """The findings as text, a row for each part."""
    rows = [("framework", "version", "supported", "ours in it", "")]
    for finding in findings:
        supported = "-" if not finding.supported else "yes" if finding.version in finding.supported else "no"
        if supported == "no":
            supported = f"no ({', '.join(finding.supported)} are)"
        parts = [(name, said or "in place") for name, said in finding.parts.items()] or [("-", "")]
        first = (finding.framework, finding.version or "not installed", supported)
        rows += [(*(first if number == 0 else ("", "", "")), *part) for number, part in enumerate(parts)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*map(str.ljust, row[:4], widths), row[4]]).rstrip() for row in rows)


def run(workspace: Workspace, settings: DoctorSettings) -> None:
    """Print the table.

    Raises:
        SystemExit: with code 1, if a part of ours did not take place in a framework that is installed.
    """
    with ThreadPoolExecutor() as pool:
        findings = list(pool.map(examine, CHECKS))
    print(table(findings))
    if not all(finding.healthy for finding in findings):
        raise SystemExit(1)


STAGE = Stage(name="doctor", settings=DoctorSettings, run=run)

if __name__ == "__main__":
    print("\n" + ANSWER + json.dumps(asdict(CHECKS[sys.argv[1]]())), flush=True)
