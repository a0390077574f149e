"""The stage ``corpus reason``: questions, and the rows of the answers that pass every check (section 4.2)."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from random import Random
from typing import IO

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.draw import shuffled
from gream_ext.corpus.files import Row, rejected_path, row, write_dataset_info, write_rows
from gream_ext.corpus.prompt_settings import write_sidecar
from gream_ext.corpus.prompts import drawn_wording, system_text
from gream_ext.corpus.source import Source, joined
from gream_ext.corpus.stages import ReasonSettings
from gream_ext.corpus.teacher import Answer, Question, answer_fault
from gream_ext.corpus.teachers import TEMPLATE, answers, estimates, teachers_of
from gream_ext.corpus.words import words_of
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace, whole


def reason(workspace: Workspace, settings: ReasonSettings) -> None:
    """Write both files, or with dry_run print what the teachers would cost. `GreamError` where too few answers pass."""
    source = Source(
        training_histories(workspace), Catalogue.load(workspace), settings.window, settings.crop_share,
        least=settings.min_history,
    )  # fmt: skip
    if not source.targets:
        raise GreamError(f"no user has more than min_history={settings.min_history} training items: lower min_history")
    count = min(settings.rows or len(source.targets), len(source.targets))
    asked, teachers = questions(source, count, settings.epochs, settings.seed), teachers_of(settings, workspace)
    if settings.dry_run:
        for line in estimates(teachers, asked, settings.seed):
            print(f"corpus reason: {line}")
        return
    total, rejected_to, faults = count * settings.epochs, rejected_path(workspace), Counter[str]()
    with whole(rejected_to) as draft, draft.open("w", encoding="utf-8") as rejected:
        rows = reason_rows(answers(teachers, asked, settings.seed), settings, faults, rejected)
        first = next(rows, None)
        accepted = write_rows(workspace.reason, chain([first], rows), total, "corpus reason") if first else 0
    why = "".join(f", {fault} {count}" for fault, count in sorted(faults.items()))
    if not accepted:
        raise GreamError(
            f"none of {total} answers was accepted{why}: {rejected_to} holds each with its reason; raise "
            "--max-words where they are too long, change the items' titles where those leak"
        )
    print(f"corpus reason: {accepted} of {total} answers accepted{why}", file=sys.stderr)
    write_sidecar(workspace.reason, settings.window, words_of(settings.domain), settings.system_prompt)
    write_dataset_info(workspace)
    if set(settings.names) != {TEMPLATE} and total - accepted > settings.tolerate * total:
        raise GreamError(
            f"corpus reason: {total - accepted} of {total} questions have no good answer{why}: run again to ask for "
            f"them once more, see {rejected_to}, or set --tolerate to the share that may be missing"
        )


def questions(source: Source, rows: int, epochs: int, seed: int) -> Iterator[Question]:
    """Training targets in random order, ``rows`` an epoch, none twice before all were asked; the same for a seed."""
    rng = Random(f"reason/{seed}/questions")
    for number, unit in enumerate(shuffled(len(source.targets), rows * epochs, f"reason/{seed}")):
        yield Question(number, number // rows + 1 if epochs > 1 else None, *source.target(unit, rng))


def reason_rows(
    answers: Iterable[Answer], settings: ReasonSettings, faults: Counter[str], rejected: IO[str]
) -> Iterator[Row]:
    """The rows whose answers are valid; the others are counted by reason and written to ``rejected`` with it."""
    words = words_of(settings.domain)
    rng, system = Random(f"reason/{settings.seed}/prompts"), system_text(settings.system_prompt, words)
    for answer in answers:
        wording = drawn_wording("reason", settings.canonical_share, rng, words)
        messages = [
            {"role": "system", "content": system},
            {"role": "user", "content": wording.format(history=joined(answer.question.history))},
            {"role": "assistant", "content": answer.text},
        ]
        made = row("reason", "reason", answer.question.epoch, messages, teacher=answer.teacher)
        fault = answer.fault or answer_fault(answer.text, answer.question, settings.max_words, words)
        if fault is None:
            yield made
        else:
            faults[fault.partition(":")[0]] += 1
            rejected.write(json.dumps({"reason": fault, **made}, ensure_ascii=False) + "\n")
