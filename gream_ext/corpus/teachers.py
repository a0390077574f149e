"""Which teachers write the reasoning data, by the settings, and how they share the questions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from gream_ext.corpus.reason import TEMPLATE, ReasonSettings
from gream_ext.corpus.teacher import Answer, Question, Teacher
from gream_ext.corpus.words import words_of
from gream_ext.errors import GreamError
from gream_ext.extras.ask.asking import read_template
from gream_ext.extras.ask.options import ENDPOINT_KEYS, endpoint_of
from gream_ext.extras.ask.teacher_llm import SLOTS, LlmTeacher
from gream_ext.workspace import Workspace

KEYS = (*ENDPOINT_KEYS, "extra", "weight")


@dataclass(frozen=True)
class Weighted:
    """A teacher and its share of the questions, before shares are made to add up to one."""

    teacher: Teacher
    weight: float


def check_teachers(teachers: Mapping[str, Any]) -> None:
    """`GreamError` for a key or a weight that cannot be, before anything is read."""
    for name, given in teachers.items():
        if not isinstance(given, Mapping):
            raise GreamError(f"teachers: {name} is {given!r}: give {{base_url: …, model: …, weight: …}}")
        allowed = ("weight",) if name == TEMPLATE else KEYS
        for key in given:
            if key not in allowed:
                raise GreamError(f"teachers: {name} has no key {key!r}; it has {', '.join(allowed)}")
        weight = given.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise GreamError(f"teachers: the weight of {name} is {weight!r}: give a number above 0")


def make_teachers(
    settings: ReasonSettings, workspace: Workspace, template: Callable[[], Teacher]
) -> Sequence[Weighted]:
    """The teachers that the settings name; ``template`` makes the template teacher where it is among them."""
    if not settings.teachers:
        if settings.teacher == TEMPLATE:
            return [Weighted(template(), 1.0)]
        return [Weighted(_llm(settings.model, settings, workspace, {}), 1.0)]
    return [
        Weighted(template() if name == TEMPLATE else _llm(name, settings, workspace, given), given.get("weight", 1))
        for name, given in settings.teachers.items()
    ]


def _llm(name: str, settings: ReasonSettings, workspace: Workspace, given: Mapping[str, Any]) -> LlmTeacher:
    own = {key: value for key, value in given.items() if key != "weight"}
    words = read_template("teacher.txt", settings.template, SLOTS, needed=("history", "target", "label"))
    ledger = workspace.path("reason.ledger.jsonl")
    domain = words_of(settings.domain)
    return LlmTeacher(name, endpoint_of(settings, **own), words, ledger, settings.max_words, domain)


def assigned(teachers: Sequence[Weighted], questions: Iterable[Question], seed: int) -> list[list[Question]]:
    """The questions of each teacher, drawn by weight; a question keeps its teacher when more are asked."""
    own: list[list[Question]] = [[] for _ in teachers]
    weights = [one.weight for one in teachers]
    for question in questions:
        (number,) = Random(f"reason/{seed}/teacher/{question.number}").choices(range(len(teachers)), weights)
        own[number].append(question)
    return own


def answers(teachers: Sequence[Weighted], questions: Iterable[Question], seed: int) -> Iterator[Answer]:
    """All answers in the order of the questions. One teacher answers as it reads, several one after another."""
    if len(teachers) == 1:
        yield from teachers[0].teacher.answers(questions)
        return
    asked = list(questions)
    found: dict[int, list[Answer]] = {}
    for one, own in zip(teachers, assigned(teachers, asked, seed), strict=True):
        for answer in one.teacher.answers(own):
            found.setdefault(answer.question.number, []).append(answer)
    for question in asked:
        yield from found.get(question.number, ())


def estimates(teachers: Sequence[Weighted], questions: Iterable[Question], seed: int) -> Iterator[str]:
    """For each teacher what its questions would cost, without asking anything."""
    for one, own in zip(teachers, assigned(teachers, questions, seed), strict=True):
        if isinstance(one.teacher, LlmTeacher):
            yield f"{one.teacher.name}: {one.teacher.estimate(own)}"
        else:
            yield f"{one.teacher.name}: {len(own)} questions, which cost nothing"
