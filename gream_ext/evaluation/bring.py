"""Stage ``baselines bring``: another workspace's model as a baseline of this one, over the same users and targets.

So TIGER and LC-Rec, which are recipes of our own pipeline (examples/tiger.yaml, examples/lc_rec.yaml), get columns in
the report of the model that is compared with them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")
OURS = ("base_model", "sft", "srpo", "popular", "markov")


@dataclass(frozen=True)
class BringSettings:
    """Which evaluation, and what it is called here."""

    name: str = option(help="what the baseline is called, such as TIGER")
    source: str = option(help="the other workspace, whose model `gream evaluate` has measured in direct mode")
    model: str = option("sft", help="its model there")
    split: Literal["test", "valid"] = option("test", help="the interaction that is asked for")

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in OURS:
            raise GreamError(f"name {self.name!r} is taken or no name: give letters, digits, blanks, dots and dashes")


def run(workspace: Workspace, settings: BringSettings) -> None:
    import polars as pl

    from gream_ext.data.histories import evaluation_cases
    from gream_ext.evaluation.protocol import files, read_evaluation, stem, write_evaluation
    from gream_ext.extras.report.data import write_results
    from gream_ext.workspace import read_json

    wanted = pl.DataFrame(
        [(case.user_id, case.target) for case in evaluation_cases(workspace, settings.split)],
        schema=["user_id", "target"],
        orient="row",
    ).sort("user_id")
    brought = []
    for exclude_seen in (False, True):
        path = stem(Workspace(settings.source), settings.model, "direct", settings.split, exclude_seen)
        if not files(path)[0].exists():
            continue
        rows, about = read_evaluation(path), read_json(files(path)[1], "evaluate")
        if not rows.select("user_id", "target").sort("user_id").equals(wanted):
            raise GreamError(f"{files(path)[0]} has other users or targets than this workspace: prepare both alike")
        told = {"model": settings.name, "mode": "direct", "split": settings.split, "exclude_seen": exclude_seen}
        here = stem(workspace, settings.name, "direct", settings.split, exclude_seen)
        beams = {name: about[name] for name in ("beams",) if name in about}
        write_evaluation(here, rows, {**about, **told, "brought_from": settings.model}, {**told, **beams})
        brought.append("seen items excluded" if exclude_seen else "all items")
    if not brought:
        raise GreamError(
            f"{settings.source} has no direct evaluation of {settings.model!r} on {settings.split} users: run `gream "
            f"evaluate --workspace {settings.source} --model {settings.model} --split {settings.split}` first"
        )
    write_results(workspace)
    print(f"baselines bring: {settings.name}: {', '.join(brought)} ({len(wanted)} users)")


def _sources(settings: BringSettings) -> list[Path]:
    """The files there, as far as they are; which ones there are decides what is written here."""
    from gream_ext.evaluation.protocol import files, stem

    stems = [stem(Workspace(settings.source), settings.model, "direct", settings.split, one) for one in (False, True)]
    return [file for path in stems for file in files(path) if file.exists()]


def _writes(workspace: Workspace, settings: BringSettings) -> list[Path]:
    from gream_ext.evaluation.protocol import stem

    folder = stem(workspace, settings.name, "direct", settings.split, False).parent
    return [folder / file.name for file in _sources(settings)]


STAGE = Stage(
    name="baselines bring",
    settings=BringSettings,
    run=run,
    reads=lambda workspace, settings: [workspace.interactions, *_sources(settings)],
    writes=_writes,
    label=lambda settings: f"baselines bring {settings.name}" + ("" if settings.split == "test" else " valid"),
)
