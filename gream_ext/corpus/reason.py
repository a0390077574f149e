"""Stage ``corpus reason``: the reasoning data of section 4.2, written by a teacher and validated row by row."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random
from typing import IO, TYPE_CHECKING, Any, Literal

from gream_ext.corpus.align import corpus_reads, load_catalogue
from gream_ext.corpus.draw import shuffled
from gream_ext.corpus.files import Row, dataset_info_path, row, write_dataset_info, write_rows
from gream_ext.corpus.prompt_settings import sidecar, write_sidecar
from gream_ext.corpus.prompts import WINDOW, SystemPrompt, drawn_wording, system_text
from gream_ext.corpus.validate import MAX_WORDS, answer_fault
from gream_ext.corpus.words import DOMAIN_HELP, words_of
from gream_ext.errors import GreamError
from gream_ext.extras.ask.options import AskSettings
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

if TYPE_CHECKING:
    import numpy as np

    from gream_ext.corpus.tasks.base import Source
    from gream_ext.corpus.teacher import Answer, Question, Teacher


TEMPLATE = "template"
"""The teacher that needs no endpoint."""


@dataclass(frozen=True)
class ReasonSettings(AskSettings):
    """How much reasoning data, and how it is written; the options of an LLM matter to teacher llm alone."""

    rows: int = option(
        10_000,
        least=0,
        help="questions an epoch, at most one for each training target; "
        "0: every training target that has min_history items before it",
    )
    epochs: int = option(3, least=1, help="epochs that get a draw of their own; 1: the same rows in every epoch")
    teacher: Literal["template", "llm"] = option("template", help="who writes the reasoning; llm needs an endpoint")
    teachers: dict[str, Any] = option(
        {},
        help="several teachers that share the questions by weight, each NAME={base_url: …, model: …, weight: 2} with "
        "what differs from the options of the LLM; the name template is the template teacher's",
    )
    template: str | None = option(None, help="a file in place of templates/teacher.txt, with [system] and [user] parts")
    domain: str = option("product", help=DOMAIN_HELP)
    system_prompt: SystemPrompt = option("full", help="the appendix's system prompt or one of one line")
    window: int = option(WINDOW, least=1, help="items of a history that a prompt shows")
    min_history: int = option(3, least=1, help="items that must stand before a target")
    crop_share: float = option(
        0.0, least=0, most=1, help="share of the prompts whose history is cut to a random shorter length"
    )
    most_kept: int = option(WINDOW, least=1, help="longest rewritten history, in items")
    max_words: int = option(MAX_WORDS, least=1, help="longest thinking, in words; a longer answer is rejected")
    canonical_share: float = option(0.5, least=0, most=1, help="share of prompts and sentences in the first wording")
    seed: int = option(0, help="seed of every draw")

    @property
    def asks_llm(self) -> bool:
        return any(name != TEMPLATE for name in self.teachers or [self.teacher])

    def __post_init__(self) -> None:
        from gream_ext.corpus.teachers import check_teachers

        check_teachers(self.teachers)
        words_of(self.domain)


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
    answers: Iterable["Answer"], settings: ReasonSettings, rejected: IO[str], reasons: Counter[str]
) -> Iterator[Row]:
    """The rows whose answers are valid; the others are written to ``rejected`` and counted in ``reasons``."""
    rng, words = Random(f"reason/{settings.seed}/prompts"), words_of(settings.domain)
    for answer in answers:
        history = [item.identifier for item in answer.question.history]
        wording = drawn_wording("reason", settings.canonical_share, rng, words)
        messages = [
            {"role": "system", "content": system_text(settings.system_prompt, words)},
            {"role": "user", "content": wording.format(history=", ".join(history))},
            {"role": "assistant", "content": answer.text},
        ]
        made = row("reason", "reason", answer.question.epoch, messages, teacher=answer.teacher)
        fault = answer.fault or answer_fault(answer.text, answer.question, settings.max_words, words)
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
    from gream_ext.corpus.teachers import answers, estimates, make_teachers
    from gream_ext.data.histories import training_histories

    catalogue = load_catalogue(workspace)
    source = Source(
        training_histories(workspace), catalogue, settings.window, settings.crop_share, least=settings.min_history
    )
    if not source.target_count:
        raise GreamError(f"no user has more than min_history={settings.min_history} training items: lower min_history")

    def template() -> "Teacher":
        embeddings = load_embeddings(workspace, len(catalogue))
        words = words_of(settings.domain)
        return TemplateTeacher(embeddings, settings.most_kept, settings.canonical_share, settings.seed, words)

    teachers = make_teachers(settings, workspace, template)
    if settings.dry_run:
        for line in estimates(teachers, questions(source, settings), settings.seed):
            print(f"corpus reason: {line}")
        return
    reasons: Counter[str] = Counter()
    total = epoch_rows(source, settings) * settings.epochs
    with whole(rejected_path(workspace)) as draft, draft.open("w", encoding="utf-8") as rejected:
        written = answers(teachers, questions(source, settings), settings.seed)
        rows = reason_rows(written, settings, rejected, reasons)
        first = next(rows, None)
        accepted = write_rows(workspace.reason, chain([first], rows), total, "corpus reason") if first else 0
    told = "".join(f", {reason} {count}" for reason, count in sorted(reasons.items()))
    if not accepted:
        raise GreamError(
            f"none of {total} answers was accepted{told}: {rejected_path(workspace)} holds each with its reason; raise "
            "--max-words where they are too long, change the items' titles where those leak"
        )
    write_sidecar(workspace.reason, settings.window, words_of(settings.domain), settings.system_prompt)
    write_dataset_info(workspace)
    print(f"corpus reason: {accepted} of {total} answers accepted{told}", file=sys.stderr)
    if settings.asks_llm and total - accepted > settings.tolerate * total:
        raise GreamError(
            f"corpus reason: {total - accepted} of {total} questions have no good answer{told}: run again to ask for "
            f"them once more, see {rejected_path(workspace)}, or set --tolerate to the share that may be missing"
        )


def rejected_path(workspace: Workspace) -> Path:
    """Answers that did not pass, with their reasons."""
    return workspace.corpus / "rejected.jsonl"


def _reads(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    names = settings.teachers or [settings.teacher]
    files = [*corpus_reads(workspace), *([workspace.embeddings] if TEMPLATE in names else [])]
    return [*files, Path(settings.template)] if settings.template else files


def _writes(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    if settings.dry_run:
        return []
    return [workspace.reason, sidecar(workspace.reason), rejected_path(workspace), dataset_info_path(workspace)]


STAGE = Stage(
    name="corpus reason",
    settings=ReasonSettings,
    run=run,
    reads=_reads,
    writes=_writes,
)
