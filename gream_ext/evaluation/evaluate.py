"""Recommend to every held-out user, and measure: the way of an evaluation from top to bottom."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.answers import Decoding, Machine, Task, faithfulness
from gream_ext.evaluation.baselines import popular_items
from gream_ext.evaluation.files import model_hash, write_evaluation
from gream_ext.evaluation.protocol import impossible_targets, summarise
from gream_ext.evaluation.shards import Shards, answer_all, identity
from gream_ext.items.index import ItemIndex
from gream_ext.progress import progress
from gream_ext.workspace import Workspace

LEAST_AT_ONCE = 128
"""Users of one piece of work in direct mode, at least; after each piece an interruption costs nothing."""
LEAST_TOKENS = 32
"""Of a prompt and its beams. Pieces are several batches of ``tokens_at_once``, which are sorted by length."""


def evaluate(
    workspace: Workspace,
    model: Path,
    path: Path,
    how: Decoding,
    machine: Machine,
    cutoffs: Sequence[int],
    limit: int | None = None,
) -> dict[str, Any]:
    """Ask the model for every user of a split, or for the first ones, and write the rows and their figures.

    ``path`` is the stem of the two files; returns the figures. The pieces of an interrupted evaluation of the same
    model, users and decoding are taken up again.
    """
    index = ItemIndex.load(workspace.item_index)
    cases = evaluation_cases(workspace, how.split)[:limit]
    check_cases(cases, index)
    decoding = {key: value for key, value in asdict(how).items() if key != "prompts"}
    about = {
        **decoding,
        **how.asked,
        "model": path.parent.name,
        "model_sha256": model_hash(model, workspace.item_index),
    }
    shards = Shards(path, identity(about, [workspace.interactions]))
    histories = training_histories(workspace)
    training = list(histories.values()) if how.prior else ()
    rows = ask(Task(model, workspace.item_index, how, machine, training), cases, shards)
    check_rows(rows, index)
    popular = popular_items(histories, index.item_ids)
    figures = summarise(rows, how.mode, cutoffs, len(index), popular, how.rank)
    if how.mode == "reason":
        figures |= faithfulness(index, cases, rows)
    if how.exclude_seen:
        figures["impossible_targets"] = impossible_targets(cases)
    write_evaluation(path, rows, {**about, **figures}, about)
    shards.remove()
    return figures


def ask(task: Task, cases: Sequence[Case], shards: Shards) -> pl.DataFrame:
    """The rows of all cases in their order: pieces of an earlier attempt, and the model's answers to the rest."""
    size = piece_size(task, len(cases))
    pieces = {number: cases[begin : begin + size] for number, begin in enumerate(range(0, len(cases), size))}
    done = {number: rows for number, some in pieces.items() if (rows := shards.read(number, some)) is not None}
    with progress(total=len(cases), initial=sum(map(len, done.values())), unit=" users", desc=task.how.mode) as bar:
        missing = {number: some for number, some in pieces.items() if number not in done}
        for number, rows in answer_all(task, missing):
            done[number] = shards.write(number, rows)
            bar.update(len(rows))
    return pl.concat([done[number] for number in range(len(pieces))])


def piece_size(task: Task, users: int) -> int:
    """Users that are answered together, cut into batches by the engine."""
    if task.how.mode == "reason":
        return max(1, task.machine.rows_at_once // task.how.n)
    if task.how.prior:  # a mass of every item for each user
        return LEAST_AT_ONCE
    size = max(LEAST_AT_ONCE, task.machine.tokens_at_once // LEAST_TOKENS)
    return max(LEAST_AT_ONCE, min(size, users // (4 * task.machine.processes)))


def check_cases(cases: Sequence[Case], index: ItemIndex) -> None:
    """`GreamError` when there is nobody to evaluate, or an item that the index does not know."""
    if not cases:
        raise GreamError("there is no user to evaluate: run `gream prepare` on more data")
    for case in cases:
        for item in (*case.history, case.target):
            if item not in index.position:
                raise GreamError(
                    f"user {case.user_id!r}: item {item!r} is not in the item index: build the index again"
                )


def check_rows(rows: pl.DataFrame, index: ItemIndex) -> None:
    """Every recommendation is a real item, and no list holds one twice; anything else is a fault of ours."""
    for user, items in rows.select("user_id", "recommendations").rows():
        if len(set(items)) != len(items) or not all(item in index.position for item in items):
            raise RuntimeError(f"user {user!r} was recommended what is no item, or an item twice: {items}")
