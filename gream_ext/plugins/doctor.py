"""Command ``doctor``: which frameworks are here, whether we support their versions, and whether we work in them.

Each framework is asked in a process of its own, started as its launcher would be: what is said is what a training run
will find, and one framework that cannot be imported does not hide another. Where all our parts are in place it goes the
way to the framework's first step as well, on made-up rows (`gream_ext.plugins.first_step`).
"""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.plugins import llamafactory, verl
from gream_ext.plugins.verl import internals as verl_internals
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace

ANSWER = "gream-doctor: "
"""Begins the line with the answer; frameworks print other things as well."""
DRIVER = "libcuda.so"
"""The library that comes with a GPU's driver and with nothing else."""
DRIVER_FILE = Path("/proc/driver/nvidia/version")
"""Is there where NVIDIA's driver is."""
CURE = "make the environment by scripts/setup_gpu_env.sh {}, whose versions were tried together (docs/installation.md)"


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
    """What we register there, and what was tried → ``""``, or a sentence that says why it did not take place."""
    notes: dict[str, str] = field(default_factory=dict)
    """Part that is in order → what is to be said of it all the same."""

    def having(self, part: str, fault: str = "", note: str = "") -> "Finding":
        """This finding with one part more."""
        notes = {**self.notes, part: note} if note else self.notes
        return replace(self, parts={**self.parts, part: fault}, notes=notes)

    @property
    def healthy(self) -> bool:
        return not any(self.parts.values())


def check_llamafactory() -> Finding:
    """In this process: the keys, converters, processors and trainer of the curriculum, and two steps with them."""
    internals = llamafactory.internals
    parts = {"curriculum": "; ".join(llamafactory.problems())}
    found = Finding("llamafactory", internals.version(), internals.SUPPORTED, parts)
    return _with_gpu(tried(found, "two steps of SFT", "sft", _first_step("llamafactory")))


def check_verl() -> Finding:
    """In this process: the estimator, the recipes on Hydra's path, the group filter, the CPU platform; then prompts,
    rewards and advantages with the recipe, and the rollout that it names."""
    internals = verl_internals
    parts = {name: said for name, said in verl.registered().items() if name != "version"}
    found = Finding("verl", internals.version(), internals.SUPPORTED, parts)
    found = tried(found, "a group's advantages", "rl", _first_step("verl"))
    if importlib.util.find_spec("sglang") is None:
        found = found.having(
            "SGLang rollout", note="SGLang is not installed: the GPU recipes need it, the recipe cpu does not"
        )
    else:
        found = _import_kernels(found, "SGLang rollout", "rl", "verl.workers.rollout.sglang_rollout.sglang_rollout")
    return _with_gpu(found)


def check_sglang() -> Finding:
    """In this process: whether beam search and answers can be kept to a catalogue. Verl has another version, for its
    rollouts; that we leave alone, and nothing is amiss then."""
    from gream_ext.plugins.sglang import internals, problems  # its neighbour loads torch

    if internals.version() not in internals.SUPPORTED:
        wanted = f"asleep: our decoding wants SGLang {internals.SUPPORTED[-1]}, in an environment of its own (serve)"
        rolls_out = importlib.util.find_spec("verl") is not None
        return Finding("sglang", internals.version(), () if rolls_out else internals.SUPPORTED).having(
            "decoding", note=wanted
        )
    found = Finding("sglang", internals.version(), internals.SUPPORTED, problems())
    return _with_gpu(_import_kernels(found, "engine", "serve", "sglang.srt.entrypoints.engine"))


def _first_step(framework: str) -> Callable[[Path], object]:
    """``take`` of the framework's own ``first_step``, whose import is part of what is tried."""
    return lambda folder: importlib.import_module(f"gream_ext.plugins.{framework}.first_step").take(folder)


def sentence(error: BaseException) -> str:
    """What went wrong, in one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in said if DRIVER in line] or said
    return str(error) if isinstance(error, GreamError) else f"{type(error).__name__}: {named[0] if named else ''}"


def tried(found: Finding, part: str, environment: str, step: Callable[[Path], object]) -> Finding:
    """The finding with what came of ``step``, done in a folder that is gone afterwards; where a part of ours is missing
    already, that is fault enough."""
    if not found.healthy:
        return found
    said = ""
    try:
        with tempfile.TemporaryDirectory(prefix="gream-doctor-", ignore_cleanup_errors=True) as folder:
            step(Path(folder))
    except BaseException as error:  # SystemExit too: whatever ends the first step
        said = f"{sentence(error)}: {CURE.format(environment)}"
    return found.having(part, said)


def _import_kernels(found: Finding, part: str, environment: str, module: str) -> Finding:
    """Import a module that loads kernels for GPUs, which need the driver's library."""
    found = tried(found, part, environment, lambda _: importlib.import_module(module))
    if DRIVER in found.parts.get(part, "") and not DRIVER_FILE.exists():
        return found.having(part, note=f"imported up to {DRIVER}, which comes with a GPU's driver")
    return found


def _with_gpu(found: Finding) -> Finding:
    """Whether this environment's PyTorch computes on the machine's GPU."""
    import torch

    said = note = ""
    if not DRIVER_FILE.exists():
        note = "this machine has none"
    elif torch.version.cuda is None:
        note = "not used: this PyTorch is built for CPUs"
    else:
        try:
            ones = torch.ones(16, 16, dtype=torch.bfloat16, device="cuda")
            said = "" if float((ones @ ones)[0, 0]) == 16 else "it computes 16 ones wrongly: see nvidia-smi"
        except Exception as error:
            why = str(error).splitlines()[0]
            said = f"{why}: PyTorch {torch.__version__} wants a driver for CUDA {torch.version.cuda}; see nvidia-smi"
    return found.having("GPU", said, note)


CHECKS: dict[str, Callable[[], Finding]] = {
    "llamafactory": check_llamafactory,
    "verl": check_verl,
    "sglang": check_sglang,
}


def examine(framework: str) -> Finding:
    """Ask one framework in a process of its own."""
    if importlib.util.find_spec(framework) is None:
        return Finding(framework)
    with tempfile.TemporaryDirectory(prefix="gream-doctor-", ignore_cleanup_errors=True) as cache:
        done = subprocess.run(
            [sys.executable, "-m", "gream_ext.plugins.doctor", framework],
            env={**os.environ, "HF_DATASETS_CACHE": cache, "HF_HUB_OFFLINE": "1"},
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
    rows = [("framework", "version", "supported", "part", "")]
    for finding in findings:
        supported = "-" if not finding.supported else "yes" if finding.version in finding.supported else "no"
        if supported == "no":
            supported = f"no ({', '.join(finding.supported)} are)"
        parts = [(name, said or finding.notes.get(name, "in place")) for name, said in finding.parts.items()]
        parts = parts or [("-", "")]
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
