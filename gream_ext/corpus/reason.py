"""The reasoning data of section 4.2: questions, and the rows of the answers that pass every check."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from random import Random
from typing import IO

from gream_ext.corpus.draw import shuffled
from gream_ext.corpus.files import Row, row, write_rows
from gream_ext.corpus.prompts import SEPARATOR, SystemPrompt, drawn_wording, system_text
from gream_ext.corpus.tasks.base import Source
from gream_ext.corpus.teacher import Answer, Question
from gream_ext.corpus.validate import MAX_WORDS, answer_fault
from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.errors import GreamError
from gream_ext.workspace import whole


def questions(source: Source, rows: int, epochs: int, seed: int) -> Iterator[Question]:
    """Training targets in random order, ``rows`` an epoch, none twice before all were asked; the same for a seed."""
    rng = Random(f"reason/{seed}/questions")
    for number, unit in enumerate(shuffled(len(source.targets), rows * epochs, f"reason/{seed}")):
        yield Question(number, number // rows + 1 if epochs > 1 else None, *source.target(unit, rng))


@dataclass
class Rows:
    """Turns answers into training rows, and counts by reason those that may not become one."""

    system_prompt: SystemPrompt = "full"
    canonical_share: float = 1.0
    max_words: int = MAX_WORDS
    seed: int = 0
    words: Words = PRODUCT
    faults: Counter[str] = field(default_factory=Counter)

    def of(self, answers: Iterable[Answer], rejected: IO[str]) -> Iterator[Row]:
        """The rows whose answers are valid; the others are written to ``rejected`` with their reasons."""
        rng, system = Random(f"reason/{self.seed}/prompts"), system_text(self.system_prompt, self.words)
        for answer in answers:
            history = SEPARATOR.join(item.identifier for item in answer.question.history)
            wording = drawn_wording("reason", self.canonical_share, rng, self.words)
            messages = [
                {"role": "system", "content": system},
                {"role": "user", "content": wording.format(history=history)},
                {"role": "assistant", "content": answer.text},
            ]
            made = row("reason", "reason", answer.question.epoch, messages, teacher=answer.teacher)
            fault = answer.fault or answer_fault(answer.text, answer.question, self.max_words, self.words)
            if fault is None:
                yield made
            else:
                self.faults[fault.partition(":")[0]] += 1
                rejected.write(json.dumps({"reason": fault, **made}, ensure_ascii=False) + "\n")

    def write(self, answers: Iterable[Answer], total: int, accepted_to: Path, rejected_to: Path) -> int:
        """Write both files; returns how many of the ``total`` questions have a row. `GreamError` where none has."""
        with whole(rejected_to) as draft, draft.open("w", encoding="utf-8") as rejected:
            rows = self.of(answers, rejected)
            first = next(rows, None)
            accepted = write_rows(accepted_to, chain([first], rows), total, "corpus reason") if first else 0
        if not accepted:
            raise GreamError(
                f"none of {total} answers was accepted{self}: {rejected_to} holds each with its reason; raise "
                "--max-words where they are too long, change the items' titles where those leak"
            )
        print(f"corpus reason: {accepted} of {total} answers accepted{self}", file=sys.stderr)
        return accepted

    def __str__(self) -> str:
        return "".join(f", {reason} {count}" for reason, count in sorted(self.faults.items()))
