"""The LLM as teacher (section 4.2): it sees history and true next item, and writes the reasoning as if it did not.

It names items by numbers in brackets. Its answer is put into the format of the training text, numbers as identifiers,
and then judged like any teacher's answer; the wording of the request is in ``templates/teacher.txt``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.corpus.catalogue import Item
from gream_ext.corpus.prompts import SEPARATOR
from gream_ext.corpus.reasoning import MAX_WORDS, Malformed, Reasoning
from gream_ext.corpus.source import shortened
from gream_ext.corpus.teacher import Answer, Question, answer_fault
from gream_ext.corpus.words import PRODUCT, Words, words_of
from gream_ext.extras.ask.answers import Template, common_fault, read_template, request_of, without_thinking
from gream_ext.extras.ask.batch import Estimate, ask, estimate
from gream_ext.extras.ask.endpoint import Request, Validate, by_hash, check_endpoint
from gream_ext.extras.ask.ledger import by_request, read_ledger
from gream_ext.workspace import Workspace

SLOTS = ("history", "target", "label", "max_words")
HEADINGS = (
    "Step 1: Extraction of Behavioral Evidence:",
    "Step 2: Modeling of Latent Preferences:",
    "Step 3: Inference of User Intent and Goal Formulation:",
    "Kept:",
    "Justification:",
    "Recommendation:",
)
LABEL = re.compile(r"\[(\d{1,4})\]")
MARKUP = re.compile(r"\*\*|__|^[\s>#*-]+(?=(?:Step [123]|Kept|Justification|Recommendation)\b)", re.M)
"""Bold headings and the like, which LLMs add unasked."""


@dataclass(frozen=True)
class LlmTeacher:
    """One endpoint and how it is asked; ``name`` stands in the data, never in the training text."""

    name: str
    settings: AskSettings
    template: Template
    ledger: Path
    max_words: int = MAX_WORDS
    words: Words = PRODUCT
    text_words: int = 24
    """Longest text of an item in the request, beside its title and traits."""

    def answers(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """For each question in order: its answers that were rejected, then the good one if there is one."""
        known = {str(question.number): question for question in questions}
        requests = [self.request(question) for question in known.values()]
        outcome = ask(self.settings, requests, self.ledger, self._check(known), f"corpus reason, {self.name}")
        written = by_request(read_ledger(self.ledger))
        hashes = {one.key: at for at, same in by_hash(self.settings, requests).items() for one in same}
        for key, question in known.items():
            kept = outcome.answers.get(key)
            for line in written.get(hashes[key], ()):
                if line["text"] != kept:
                    why = "cut: longer than max_tokens, or not good enough before"
                    yield self._answer(line["text"], question, why)
            if kept is not None:
                yield self._answer(kept, question)

    def _answer(self, text: str, question: Question, otherwise: str | None = None) -> Answer:
        """An answer in the form of the training text, with its fault; ``otherwise`` if none is found."""
        try:
            shown = read_answer(text, question).render(self.words)
        except Malformed as error:
            return Answer(question, text, self.name, str(error))
        fault = answer_fault(shown, question, self.max_words, self.words)
        return Answer(question, shown, self.name, fault or otherwise)

    def request(self, question: Question) -> Request:
        """What the LLM is asked."""
        shown = question.without_target()
        label = f"[{len(shown) + 1}]"
        slots = {
            "history": numbered(shown, self.text_words),
            "target": f"{label} {described(question.target, self.text_words)}",
            "label": label,
            "max_words": str(self.max_words),
        }
        return request_of(str(question.number), self.template, slots)

    def estimate(self, questions: Iterable[Question]) -> Estimate:
        """What asking would take; sends nothing."""
        known = {str(question.number): question for question in questions}
        requests = [self.request(question) for question in known.values()]
        return estimate(self.settings, requests, self.ledger, self._check(known))

    def _check(self, known: Mapping[str, Question]) -> Validate:
        """The check of each answer as it comes in: what fails is asked for again."""
        return lambda request, text: self._answer(text, known[request.key]).fault


def llm_teacher(name: str, settings: Any, workspace: Workspace) -> LlmTeacher:
    """The teacher at the endpoint that ``ReasonSettings`` name, with the workspace's ledger."""
    check_endpoint(settings)
    template = read_template("teacher.txt", settings.template, SLOTS, needed=("history", "target", "label"))
    ledger, words = workspace.path("reason.ledger.jsonl"), words_of(settings.domain)
    return LlmTeacher(name, settings, template, ledger, settings.max_words, words)


def described(item: Item, words: int) -> str:
    """An item on one line: title, traits, and the beginning of its text where that says more."""
    more = " ".join(shortened(item.text.removeprefix(item.title), words).split())
    return " — ".join(part for part in (item.title or item.item_id, ", ".join(item.traits), more) if part)


def numbered(items: Iterable[Item], words: int) -> str:
    """Items one a line, each behind its number in brackets."""
    return "\n".join(f"[{number}] {described(item, words)}" for number, item in enumerate(items, start=1))


def read_answer(text: str, question: Question) -> Reasoning:
    """The parts of an LLM's answer, its numbers turned into identifiers. Raises `Malformed` with the reason."""
    text = MARKUP.sub("", without_thinking(text))
    if (common := common_fault(text)) is not None:
        raise Malformed(common)
    parts = _parts(text)
    items = (*question.without_target(), question.target)
    named = {str(number): item.identifier for number, item in enumerate(items, start=1)}
    if unknown := sorted({number for number in LABEL.findall(text) if number not in named}):
        raise Malformed(f"numbers: [{unknown[0]}] names no item")
    kept = parts[3]
    if not re.fullmatch(rf"(?:{LABEL.pattern}[,\s]*)+\.?", kept):
        raise Malformed("rewriting: Kept is not a list of numbers")
    listed = SEPARATOR.join(named[number] for number in LABEL.findall(kept))
    evidence, preferences, intent, _, justification, answer = (
        LABEL.sub(lambda found: named[found[1]], part) for part in parts
    )
    return Reasoning(evidence, preferences, intent, listed, justification, answer.rstrip(". "))


def _parts(text: str) -> list[str]:
    """What stands behind each heading, in their order."""
    parts = []
    for heading in HEADINGS:
        before, found, text = text.partition(heading)
        if not found:
            raise Malformed(f"stages: no {heading!r}")
        parts.append(before.strip())
    first, *parts = [*parts, text.strip()]
    if first:
        raise Malformed(f"stages: {first[:20]!r} stands before {HEADINGS[0]!r}")
    for heading, part in zip(HEADINGS, parts, strict=True):
        if not part:
            raise Malformed(f"stages: nothing stands after {heading!r}")
    return parts
