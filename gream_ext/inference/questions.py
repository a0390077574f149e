"""What is asked of a recommender and what it says; no model needed to talk about it."""

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Question:
    """Recommend to a user with this history (item ids, oldest first; empty: a new user)."""

    history: Sequence[str]
    n: int = 10
    exclude: Collection[str] = ()
    """Items that may not be recommended."""
    among: Collection[str] | None = None
    """Only these items may be recommended; None: the whole catalogue."""
    seed: int | None = None
    """Of the reasoning; None draws a fresh one."""
    reasonings: int = 0
    """Think, then rank: ``n`` items after so many reasonings. 0: one reasoning, and the item that it names."""


@dataclass(frozen=True)
class Recommendation:
    """A real item."""

    item_id: str
    score: float
    """The log-probability of the item's identifier; of votes (`modes.votes`) the share."""
    title: str = ""
    """Empty where nobody asked for titles."""


@dataclass(frozen=True)
class Text:
    """A stretch of reasoning."""

    text: str


@dataclass(frozen=True)
class Item:
    """An identifier in the reasoning, as the item that it names."""

    item_id: str
    title: str


@dataclass(frozen=True)
class Answer:
    """The end of a reasoning: the recommended item, or None and why there is none."""

    item: Item | None
    status: str
    tokens: int = 0
    text: str = ""
    """The whole reasoning, with titles in the place of identifiers and without markers."""
    ranked: tuple[Recommendation, ...] = ()
    """The items that all reasonings lead to, best first, where a question asks for several."""


Piece = Text | Item | Answer


class Recommender(Protocol):
    """A model with its item index. One thread at a time may use it."""

    def direct(self, questions: Sequence[Question]) -> list[list[Recommendation]]:
        """Direct mode, all questions together; `GreamError` when one of them cannot be answered."""
        ...

    def reason(self, question: Question) -> Generator[Piece | None, None, None]:
        """Reasoning mode, piece by piece; a None only says that a token was computed. The last is an `Answer`."""
        ...
