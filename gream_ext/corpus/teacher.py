"""Who writes the reasoning. The template teacher fills in wordings from the items' own metadata."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol

import numpy as np

from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.denoise import kept_places, nearest_place
from gream_ext.corpus.profile import listed, profile
from gream_ext.corpus.prompts import SEPARATOR, drawn_wording
from gream_ext.corpus.reasoning import Reasoning
from gream_ext.corpus.tasks.preference import intent_text
from gream_ext.corpus.words import PRODUCT, Words


@dataclass(frozen=True)
class Question:
    """A history and its true next item: what a teacher sees. ``number`` counts the questions of a corpus."""

    number: int
    epoch: int | None
    history: tuple[Item, ...]
    target: Item


@dataclass(frozen=True)
class Answer:
    """What a teacher wrote to a question, in the form of the training text as far as it could be read."""

    question: Question
    text: str
    teacher: str
    fault: str | None = None
    """Why the teacher's own checks reject it; None: not judged yet."""


class Teacher(Protocol):
    """Writes the reasoning of section 4.2 backwards: it knows the answer and argues as if it did not."""

    @property
    def name(self) -> str: ...

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Answers to each question, in the order of the questions, at most one of them good."""
        ...


class TemplateTeacher:
    """Deterministic: what it says follows from traits and embeddings, how it says it from the seed.

    A student can write all of it by itself: the evidence and preferences are functions of the
    history, the intent names only traits of the target that the history supports, and the kept
    history ends with the latest items, close before the answer.
    """

    name = "template"

    def __init__(
        self,
        embeddings: np.ndarray,
        most_kept: int,
        canonical_share: float = 1.0,
        seed: int = 0,
        words: Words = PRODUCT,
    ):
        """``embeddings`` float [items, width], rows in the order of items.parquet."""
        self.embeddings = embeddings
        self.most_kept = most_kept
        self.canonical_share = canonical_share
        self.seed = seed
        self.words = words

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        for question in questions:
            rng = Random(f"teacher/{self.seed}/{question.number}")
            reasoning = self.reasoning(question.history, question.target, rng)
            yield Answer(question, reasoning.render(self.words), self.name)

    def reasoning(self, history: Sequence[Item], target: Item, rng: Random) -> Reasoning:
        """The stages for one history (oldest first) and its true next item."""

        def wording(task: str) -> str:
            return drawn_wording(task, self.canonical_share, rng, self.words)

        told = profile(history)
        slots = {"often": listed(told.often), "lately": listed(told.lately), "trend": told.trend}
        # The target may stand in the history already; written down again it would give the answer away.
        others = [item for item in history if item.item_id != target.item_id] or list(history)
        vectors = self.embeddings[[item.row for item in others]]
        kept = kept_places(vectors, self.most_kept)
        anchor = kept[nearest_place(vectors[kept], self.embeddings[target.row])]
        return Reasoning(
            evidence=wording("evidence").format_map(slots),
            preferences=wording("preferences_trend" if told.trend else "preferences").format_map(slots),
            intent=intent_text(history, target, wording),
            kept=SEPARATOR.join(others[place].identifier for place in kept),
            justification=wording("justification").format(anchor=others[anchor].identifier),
            answer=target.identifier,
        )
