"""Who writes the reasoning. The template teacher fills in wordings from the items' own metadata."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np
import polars as pl

from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.profile import kept_positions, listed, nearest_position, profile
from gream_ext.corpus.prompts import drawn_wording
from gream_ext.corpus.reasoning import MAX_WORDS, Reasoning, validate_reasoning
from gream_ext.corpus.source import joined
from gream_ext.corpus.tasks import intent_text
from gream_ext.corpus.words import PRODUCT, Words, words_of
from gream_ext.items.build import read_embeddings
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class Question:
    """A history and its true next item: what a teacher sees. ``number`` counts the questions of a corpus."""

    number: int
    epoch: int | None
    history: tuple[Item, ...]
    target: Item

    def without_target(self) -> tuple[Item, ...]:
        """The history without the target, to which a user may come back: written down it would give it away."""
        others = tuple(item for item in self.history if item.item_id != self.target.item_id)
        return others or self.history


@dataclass(frozen=True)
class Answer:
    """What a teacher wrote to a question, in the form of the training text as far as it could be read."""

    question: Question
    text: str
    teacher: str
    fault: str | None = None
    """Why the teacher's own checks reject it; None: not judged yet."""


def answer_fault(text: str, question: Question, max_words: int = MAX_WORDS, words: Words = PRODUCT) -> str | None:
    """`validate_reasoning` of an answer to ``question``."""
    history = [item.identifier for item in question.history]
    return validate_reasoning(text, history, question.target.identifier, question.target.title, max_words, words)


class Teacher(Protocol):
    """Writes the reasoning of section 4.2 backwards: it knows the answer and argues as if it did not."""

    @property
    def name(self) -> str: ...

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Answers to each question, in the order of the questions, at most one of them good."""
        ...

    def estimate(self, questions: Sequence[Question]) -> object:
        """What they would cost, as one prints it; nothing is asked."""
        ...


@dataclass(frozen=True)
class TemplateTeacher:
    """Deterministic: what it says follows from traits and embeddings, how it says it from the seed.

    A student can write all of it by itself: the evidence and preferences are functions of the history, the intent
    names only traits of the target that the history supports, and the kept history ends with the latest items, close
    before the answer.
    """

    embeddings: np.ndarray
    """float [items, width], rows in the order of items.parquet."""
    most_kept: int
    canonical_share: float = 1.0
    seed: int = 0
    words: Words = PRODUCT
    wishes: int = 1
    """Likely wishes that the intent names, the true one among them."""
    name: str = "template"

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        for question in questions:
            rng = Random(f"teacher/{self.seed}/{question.number}")
            yield Answer(question, self.reasoning(question, rng).render(self.words), self.name)

    def estimate(self, questions: Sequence[Question]) -> str:
        return f"{len(questions)} questions, which cost nothing"

    def reasoning(self, question: Question, rng: Random) -> Reasoning:
        """The stages for one history (oldest first) and its true next item."""

        def wording(task: str) -> str:
            return drawn_wording(task, self.canonical_share, rng, self.words)

        history, target = question.history, question.target
        known = profile(history)
        slots = {"often": listed(known.often), "lately": listed(known.lately), "trend": known.trend}
        others = question.without_target()
        vectors = self.embeddings[[item.row for item in others]]
        kept = kept_positions(vectors, self.most_kept)
        anchor = others[kept[nearest_position(vectors[kept], self.embeddings[target.row])]]
        return Reasoning(
            evidence=wording("evidence").format_map(slots),
            preferences=wording("preferences_trend" if known.trend else "preferences").format_map(slots),
            intent=intent_text(history, target, wording, self.wishes),
            kept=joined([others[position] for position in kept]),
            justification=wording("justification").format(anchor=anchor.identifier),
            answer=target.identifier,
        )


def template_teacher(name: str, settings: Any, workspace: Workspace) -> TemplateTeacher:
    """The teacher that ``ReasonSettings`` describe, with the workspace's embeddings."""
    items = pl.scan_parquet(workspace.items).select(pl.len()).collect().item()
    vectors, words = read_embeddings(workspace, items), words_of(settings.domain)
    return TemplateTeacher(
        vectors, settings.most_kept, settings.canonical_share, settings.seed, words, wishes=settings.wishes
    )
