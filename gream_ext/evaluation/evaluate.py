"""The stage ``evaluate``: recommend to every held-out user, and measure, from top to bottom."""

from collections.abc import Sequence
from dataclasses import asdict

import polars as pl

from gream_ext.base_model.model_format import read_prompts
from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation.answers import Task, faithfulness
from gream_ext.evaluation.baselines import popular_items
from gream_ext.evaluation.files import model_folder, model_hash, write_evaluation
from gream_ext.evaluation.protocol import impossible_targets, summarise, summary_line
from gream_ext.evaluation.shards import Shards, answer_all, identity
from gream_ext.evaluation.stages import EvaluateSettings, evaluate_label, evaluated
from gream_ext.inference.device import check_device
from gream_ext.items.index import ItemIndex
from gream_ext.progress import progress
from gream_ext.workspace import Workspace

DIRECT_AT_ONCE = 128
"""Users of one piece of work in direct mode; after each piece an interruption costs nothing."""
DECODING = (
    "mode", "split", "exclude_seen", "beams", "normalisation", "n", "temperature", "top_p", "max_new_tokens",
    "constrained", "faithful", "rank", "beta", "seed", "dtype", "engine", "prior", "prior_weight",
)  # fmt: skip
"""The settings that an answer depends on, beside the model, its prompts and the user; they are written with it."""


def evaluate(workspace: Workspace, settings: EvaluateSettings) -> None:
    """Ask the model for every user of a split, or for the first ones, and write the rows and their figures.

    It is asked in the way that it was trained with, unless the settings say otherwise. The pieces of an interrupted
    evaluation of the same model, users and decoding are taken up again.
    """
    if settings.server is None:
        check_device(settings.device)
    model = model_folder(workspace, settings.model)
    if not (model / "config.json").exists():
        raise GreamError(f"model {settings.model!r}: {model} is no model folder; train it or name another")
    system_prompt = None if settings.system_prompt == "auto" else settings.system_prompt
    prompts = read_prompts(model, settings.window, system_prompt)
    index = ItemIndex.load(workspace.item_index)
    cases = evaluation_cases(workspace, settings.split)[: settings.limit]
    check_cases(cases, index)
    path, mode = evaluated(workspace, settings), settings.mode
    about = {
        **{name: getattr(settings, name) for name in DECODING},
        # SGLang's samples depend on the batch that they are drawn in.
        **({"seed": None} if settings.engine == "sglang" else {}),
        "window": prompts.direct_window if mode == "direct" else prompts.reason_window,
        "system_prompt": prompts.system_prompt,
        "words": asdict(prompts.words),
        "model": path.parent.name,
        "model_sha256": model_hash(model, workspace.item_index),
    }
    shards = Shards(path, identity(about, [workspace.interactions]))
    histories = training_histories(workspace)
    training = list(histories.values()) if settings.prior else ()
    rows = ask(Task(model, workspace.item_index, settings, prompts, training), cases, shards)
    check_rows(rows, index)
    popular = popular_items(histories, index.item_ids)
    figures = summarise(rows, mode, settings.cutoffs, len(index), popular, settings.rank)
    if mode == "reason":
        figures |= faithfulness(index, cases, rows)
    if settings.exclude_seen:
        figures["impossible_targets"] = impossible_targets(cases)
    write_evaluation(path, rows, {**about, **figures}, about)
    shards.remove()
    names = ("recall", "ndcg") if mode == "direct" else ("pass", "recall", "ndcg") if settings.rank else ("pass",)
    print(f"{evaluate_label(settings)}: {summary_line(figures, names, settings.cutoffs)}")


def ask(task: Task, cases: Sequence[Case], shards: Shards) -> pl.DataFrame:
    """The rows of all cases in their order: pieces of an earlier attempt, and the model's answers to the rest."""
    settings = task.settings
    size = DIRECT_AT_ONCE if settings.mode == "direct" else max(1, settings.rows_at_once // settings.n)
    pieces = {number: cases[begin : begin + size] for number, begin in enumerate(range(0, len(cases), size))}
    done = {number: rows for number, some in pieces.items() if (rows := shards.read(number, some)) is not None}
    with progress(total=len(cases), initial=sum(map(len, done.values())), unit=" users", desc=settings.mode) as bar:
        missing = {number: some for number, some in pieces.items() if number not in done}
        for number, rows in answer_all(task, missing):
            done[number] = shards.write(number, rows)
            bar.update(len(rows))
    return pl.concat([done[number] for number in range(len(pieces))])


def check_cases(cases: Sequence[Case], index: ItemIndex) -> None:
    """`GreamError` when there is nobody to evaluate, or an item that the index does not know."""
    if not cases:
        raise GreamError("there is no user to evaluate: run `gream prepare` on more data")
    asked = ((case.user_id, item) for case in cases for item in (*case.history, case.target))
    for user, item in asked:
        if item not in index.position:
            raise GreamError(f"user {user!r}: item {item!r} is not in the item index: build the index again")


def check_rows(rows: pl.DataFrame, index: ItemIndex) -> None:
    """Every recommendation is a real item, and no list holds one twice; anything else is a fault of ours."""
    for user, items in rows.select("user_id", "recommendations").rows():
        if len(set(items)) != len(items) or not all(item in index.position for item in items):
            raise RuntimeError(f"user {user!r} was recommended what is no item, or an item twice: {items}")
