"""The teachers by name, and how several share the questions."""

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from gream_ext.corpus.teacher import Answer, Question, Teacher

TEMPLATE = "template"
"""The teacher that needs no endpoint."""

Factory = Callable[[str, Any, Workspace], "Teacher"]
"""Makes the teacher that a corpus calls by this name, from `ReasonSettings` and the workspace."""

TEACHERS: dict[str, Factory | str] = {
    TEMPLATE: "gream_ext.corpus.teacher:template_teacher",
    "llm": "gream_ext.extras.ask.teacher_llm:llm_teacher",
}
"""How each kind of teacher is made; ``module:function`` is imported when it is asked for. Others may be added."""


def make_teacher(kind: str, name: str, settings: Any, workspace: Workspace) -> "Teacher":
    factory = TEACHERS[kind]
    if isinstance(factory, str):
        module, _, function = factory.partition(":")
        factory = getattr(importlib.import_module(module), function)
    return factory(name, settings, workspace)


@dataclass(frozen=True)
class Weighted:
    """A teacher and its share of the questions, before shares are made to add up to one."""

    teacher: "Teacher"
    weight: float


def check_teachers(teachers: Mapping[str, Any], keys: Sequence[str]) -> None:
    """`GreamError` for a key or a weight that cannot be, before anything is read."""
    for name, given in teachers.items():
        if not isinstance(given, Mapping):
            raise GreamError(f"teachers: {name} is {given!r}: give {{base_url: …, model: …, weight: …}}")
        allowed = ("weight",) if name == TEMPLATE else (*keys, "weight")
        for key in given:
            if key not in allowed:
                raise GreamError(f"teachers: {name} has no key {key!r}; it has {', '.join(allowed)}")
        weight = given.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise GreamError(f"teachers: the weight of {name} is {weight!r}: give a number above 0")


def assigned(teachers: Sequence[Weighted], questions: Iterable["Question"], seed: int) -> list[list["Question"]]:
    """The questions of each teacher, drawn by weight; a question keeps its teacher when more are asked."""
    own: list[list[Question]] = [[] for _ in teachers]
    weights = [one.weight for one in teachers]
    for question in questions:
        (number,) = Random(f"reason/{seed}/teacher/{question.number}").choices(range(len(teachers)), weights)
        own[number].append(question)
    return own


def answers(teachers: Sequence[Weighted], questions: Iterable["Question"], seed: int) -> Iterator["Answer"]:
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


def estimates(teachers: Sequence[Weighted], questions: Iterable["Question"], seed: int) -> Iterator[str]:
    """For each teacher what its questions would cost, without asking anything."""
    for one, own in zip(teachers, assigned(teachers, questions, seed), strict=True):
        yield f"{one.teacher.name}: {one.teacher.estimate(own)}"
