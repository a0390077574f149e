"""Samples of all training data, as the terminal shows them."""

import re
from collections.abc import Callable, Iterator
from itertools import islice

import polars as pl

from gream_ext.corpus.files import Row, read_rows
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.stages import InspectSettings, training_files
from gream_ext.identifiers import IDENTIFIER_TOKENS, parse
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import ITEMS, Workspace, read_table

RULE = "─" * 80
SCAN = 50_000
"""Rows of a file that samples are taken from: tasks stand in random order, so its beginning shows them all."""


def run(workspace: Workspace, settings: InspectSettings) -> None:
    files = training_files(workspace)
    named = title_writer(workspace) if settings.titles else str
    seen: dict[str, int] = {}
    shown = 0
    for data in (*files, "rl") if settings.data == "all" else (settings.data,):
        if settings.data == "all" and data in files and not files[data][0].exists():
            continue
        rows: Iterator[Row] = rl_rows(workspace) if data == "rl" else read_rows(*files[data])
        for row in samples(rows, settings.task, settings.count, settings.skip, seen):
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


def samples(rows: Iterator[Row], task: str, count: int, skip: int, seen: dict[str, int]) -> Iterator[Row]:
    """The first ``count`` rows of ``task`` ("": of each) after ``skip`` of it; all are counted in ``seen``."""
    first = dict(seen)
    for row in islice(rows, SCAN):
        number = seen.get(row["task"], 0) - first.get(row["task"], 0)
        seen[row["task"]] = seen.get(row["task"], 0) + 1
        if task in ("", row["task"]) and skip <= number < skip + count:
            yield row


def rl_rows(workspace: Workspace) -> Iterator[Row]:
    """RL prompts in the shape of training rows."""
    for path in (workspace.rl_train, workspace.rl_valid):
        if path.exists():
            try:
                frame = pl.scan_parquet(path).select("extra_info", "reward_model", "prompt").head(SCAN).collect()
            except (pl.exceptions.PolarsError, OSError) as error:
                said = str(error).partition("\n")[0]
                raise GreamError(f"{path} is damaged ({said}): run `gream corpus rl` again") from None
            for row in frame.iter_rows(named=True):
                more = row["extra_info"]
                truth = {"role": "ground truth", "content": row["reward_model"]["ground_truth"]}
                task = f"rl {more['split']} {more['mode']}"
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
    index = ItemIndex.load(workspace.item_index)
    titles = dict(read_table(workspace.items, ITEMS, "prepare").select("item_id", "title").iter_rows())

    def named(match: re.Match[str]) -> str:
        item = index.item(parse(match.group()) or ())
        return match.group() if item is None else f"{match.group()} «{titles.get(item) or item}»"

    return lambda text: IDENTIFIER_TOKENS.sub(named, text)
