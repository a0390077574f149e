"""Stage ``corpus reason``: the reasoning data of section 4.2, written by a teacher and validated row by row."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import IO, TYPE_CHECKING, Literal

from gream_ext.corpus.align import check_range, corpus_reads, load_catalogue
from gream_ext.corpus.draw import shuffled
from gream_ext.corpus.files import Row, dataset_info_path, row, write_dataset_info, write_rows
from gream_ext.corpus.prompts import WINDOW, SystemPrompt, drawn_wording, system_text
from gream_ext.corpus.validate import MAX_WORDS, validate_reasoning
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

if TYPE_CHECKING:
    import numpy as np

    from gream_ext.corpus.tasks.base import Source
    from gream_ext.corpus.teacher import Question, Teacher


@dataclass(frozen=True)
class ReasonSettings:
    """How much reasoning data, and how it is written."""

    rows: int = option(
        10_000,
        help="questions an epoch, at most one for each training target; "
        "0: every training target that has min_history items before it",
    )
    epochs: int = option(3, help="epochs that get a draw of their own; 1: the same rows in every epoch")
    teacher: Literal["template"] = option("template", help="who writes the reasoning")
    system_prompt: SystemPrompt = option("full", help="the appendix's system prompt or one of one line")
    window: int = option(WINDOW, help="items of a history that a prompt shows")
    min_history: int = option(3, help="items that must stand before a target")
    crop_share: float = option(0.0, help="share of the prompts whose history is cut to a random shorter length")
    most_kept: int = option(WINDOW, help="longest rewritten history, in items")
    max_words: int = option(MAX_WORDS, help="longest thinking, in words; a longer answer is rejected")
    canonical_share: float = option(0.5, help="share of prompts and sentences in the first wording")
    seed: int = option(0, help="seed of every draw")

    def __post_init__(self) -> None:
        check_range(self, "epochs", "window", "min_history", "most_kept", "max_words", least=1)
        check_range(self, "rows", least=0)
        check_range(self, "crop_share", "canonical_share", least=0, most=1)


def epoch_rows(source: "Source", settings: ReasonSettings) -> int:
    """Questions an epoch: no target twice."""
    return min(settings.rows or source.target_count, source.target_count)


def questions(source: "Source", settings: ReasonSettings) -> Iterator["Question"]:
    """Training targets in random order, none twice before all were asked; the same for the same seed."""
    from gream_ext.corpus.teacher import Question

    count = epoch_rows(source, settings)
    chance = Random(f"reason/{settings.seed}/questions")
    for number, unit in enumerate(shuffled(source.target_count, count * settings.epochs, f"reason/{settings.seed}")):
        epoch = number // count + 1 if settings.epochs > 1 else None
        yield Question(number, epoch, *source.target(unit, chance))


def reason_rows(
    teacher: "Teacher", source: "Source", settings: ReasonSettings, rejected: IO[str], reasons: Counter[str]
) -> Iterator[Row]:
    """The rows whose answers are valid; the others are written to ``rejected`` and counted in ``reasons``."""
    chance = Random(f"reason/{settings.seed}/prompts")
    for question, answer in teacher.answers(questions(source, settings)):
        history = [item.identifier for item in question.history]
        wording = drawn_wording("reason", settings.canonical_share, chance)
        messages = [
            {"role": "system", "content": system_text(settings.system_prompt)},
            {"role": "user", "content": wording.format(history=", ".join(history))},
            {"role": "assistant", "content": answer},
        ]
        made = row("reason", "reason", question.epoch, messages, teacher=teacher.name)
        target = question.target
        fault = validate_reasoning(answer, history, target.identifier, target.title, settings.max_words)
        if fault is None:
            yield made
        else:
            reasons[fault.partition(":")[0]] += 1
            rejected.write(json.dumps({"reason": fault, **made}, ensure_ascii=False) + "\n")


def load_embeddings(workspace: Workspace, items: int) -> "np.ndarray":
    """The item embeddings, float32 [items, width], mapped rather than read."""
    import numpy as np

    try:
        embeddings = np.load(workspace.embeddings, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise GreamError(f"{workspace.embeddings} is missing: run `gream embed` first") from None
    except ValueError as error:
        raise GreamError(f"{workspace.embeddings} is damaged ({error}): run `gream embed` again") from None
    if embeddings.ndim != 2 or len(embeddings) != items:
        shape = "x".join(map(str, embeddings.shape))
        raise GreamError(f"{workspace.embeddings} is {shape} and there are {items} items: run `gream embed` again")
    return np.asarray(embeddings)


def run(workspace: Workspace, settings: ReasonSettings) -> None:
    from gream_ext.corpus.tasks.base import Source
    from gream_ext.corpus.teacher import TemplateTeacher
    from gream_ext.data.histories import training_histories

    catalogue = load_catalogue(workspace)
    embeddings = load_embeddings(workspace, len(catalogue))
    histories = training_histories(workspace)
    source = Source(histories, catalogue, settings.window, settings.crop_share, least=settings.min_history)
    if not source.target_count:
        raise GreamError(f"no user has more than min_history={settings.min_history} training items: lower min_history")
    teacher = TemplateTeacher(embeddings, settings.most_kept, settings.canonical_share, settings.seed)
    reasons: Counter[str] = Counter()
    total = epoch_rows(source, settings) * settings.epochs
    with whole(rejected_path(workspace)) as draft, draft.open("w", encoding="utf-8") as rejected:
        rows = reason_rows(teacher, source, settings, rejected, reasons)
        first = next(rows, None)
        accepted = write_rows(workspace.reason, chain([first], rows), total, "corpus reason") if first else 0
    told = "".join(f", {reason} {count}" for reason, count in sorted(reasons.items()))
    if not accepted:
        raise GreamError(
            f"none of {total} answers was accepted{told}: {rejected_path(workspace)} holds each with its reason; raise "
            "--max-words where they are too long, change the items' titles where those leak"
        )
    write_dataset_info(workspace)
    print(f"corpus reason: {accepted} of {total} answers accepted{told}", file=sys.stderr)


def rejected_path(workspace: Workspace) -> Path:
    """Answers that did not pass, with their reasons."""
    return workspace.corpus / "rejected.jsonl"


STAGE = Stage(
    name="corpus reason",
    settings=ReasonSettings,
    run=run,
    reads=lambda workspace, settings: [*corpus_reads(workspace), workspace.embeddings],
    writes=lambda workspace, settings: [workspace.reason, rejected_path(workspace), dataset_info_path(workspace)],
)
