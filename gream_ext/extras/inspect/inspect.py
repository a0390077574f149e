"""Command ``corpus inspect``: samples of all training data on the terminal."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from gream_ext.corpus.files import Row, read_rows
from gream_ext.corpus.reason import rejected_path
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_table

IDENTIFIER = re.compile(r"(?:<\|[a-z]_\d+\|>)+")
RULE = "─" * 80


@dataclass(frozen=True)
class InspectSettings:
    """What is shown."""

    data: Literal["all", "align", "reason", "rejected", "rl"] = option("all", help="which data")
    task: str = option("", help="only this task")
    count: int = option(1, least=1, help="samples of each task")
    skip: int = option(0, least=0, help="samples of each task to pass over first, to see others")
    titles: bool = option(True, help="write each item's title behind its identifier")


SCAN = 50_000
"""Rows of a file that samples are taken from: tasks stand in random order, so its beginning shows them all."""


def samples(rows: Iterator[Row], settings: InspectSettings, seen: dict[str, int]) -> Iterator[Row]:
    """The first ``count`` rows of each task after ``skip`` of it; the rows of each task are counted in ``seen``."""
    first = dict(seen)
    for row in islice(rows, SCAN):
        task = row["task"]
        number = seen.get(task, 0) - first.get(task, 0)
        seen[task] = seen.get(task, 0) + 1
        if settings.task not in ("", task):
            continue
        if settings.skip <= number < settings.skip + settings.count:
            yield row


def rl_rows(workspace: Workspace) -> Iterator[Row]:
    """RL prompts in the shape of training rows."""
    import polars as pl

    for path in (workspace.rl_train, workspace.rl_valid):
        if path.exists():
            try:
                frame = pl.scan_parquet(path).select("extra_info", "reward_model", "prompt").head(SCAN).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                said = str(error).partition("\n")[0]
                raise GreamError(f"{path} is damaged ({said}): run `gream corpus rl` again") from None
            for row in frame.iter_rows(named=True):
                about = row["extra_info"]
                truth = {"role": "ground truth", "content": row["reward_model"]["ground_truth"]}
                task = f"rl {about['split']} {about['mode']}"
                yield {"kind": "rl", "task": task, "messages": [*row["prompt"], truth]}


def show(row: Row, named: Callable[[str], str]) -> str:
    """A row as it is printed."""
    epoch = f", epoch {row['epoch']}" if "epoch" in row else ""
    reason = f", rejected: {row['reason']}" if "reason" in row else ""
    lines = [f"{row['kind']} · {row['task']}{epoch}{reason}", RULE]
    lines += [f"[{message['role']}]\n{named(message['content'])}" for message in row["messages"]]
    return "\n".join([*lines, ""])


def title_writer(workspace: Workspace) -> Callable[[str], str]:
    """Puts its title behind each identifier in a text."""
    from gream_ext.identifiers import parse
    from gream_ext.items.index import ItemIndex

    index = ItemIndex.load(workspace.item_index)
    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").iter_rows())

    def named(match: re.Match[str]) -> str:
        item = index.item(parse(match.group()) or ())
        return match.group() if item is None else f"{match.group()} «{titles.get(item) or item}»"

    return lambda text: IDENTIFIER.sub(named, text)


def run(workspace: Workspace, settings: InspectSettings) -> None:
    files = {
        "align": (workspace.align, "corpus align"),
        "reason": (workspace.reason, "corpus reason"),
        "rejected": (rejected_path(workspace), "corpus reason"),
    }
    named = title_writer(workspace) if settings.titles else str
    shown = 0
    seen: dict[str, int] = {}
    for data in (*files, "rl") if settings.data == "all" else (settings.data,):
        if data == "rl":
            rows = rl_rows(workspace)
        elif settings.data == "all" and not files[data][0].exists():
            continue
        else:
            rows = read_rows(*files[data])
        for row in samples(rows, settings, seen):
            print(show(row, named))
            shown += 1
    if not shown:
        raise GreamError(_why_nothing(workspace, settings, seen))


def _why_nothing(workspace: Workspace, settings: InspectSettings, seen: dict[str, int]) -> str:
    if not seen:
        return f"{workspace.root} has no such training data: run `gream corpus align` first"
    if settings.task not in ("", *seen):
        return f"--task {settings.task!r} is not in this data: it has {', '.join(seen)}"
    most = seen[settings.task] if settings.task else max(seen.values())
    return f"--skip {settings.skip} passes over all samples: there are {most} of a task at most"


STAGE = Stage(name="corpus inspect", settings=InspectSettings, run=run)
