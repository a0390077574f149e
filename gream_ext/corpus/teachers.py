"""The teachers by name, and how several share the questions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from gream_ext.errors import GreamError
from gream_ext.stage import Later
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from gream_ext.corpus.teacher import Answer, Question, Teacher

TEMPLATE = "template"
"""The teacher that needs no endpoint."""
TEACHERS: dict[str, Callable[[str, Any, Workspace], "Teacher"]] = {
    TEMPLATE: Later("gream_ext.corpus.teacher:template_teacher"),
    "llm": Later("gream_ext.extras.ask.teacher_llm:llm_teacher"),
}
"""What makes each kind of teacher, from the name that a corpus calls it by, `ReasonSettings` and the workspace. Others
may be added."""


class Weighted(NamedTuple):
    """A teacher and its share of the questions, before shares are made to add up to one."""

    teacher: "Teacher"
    weight: float


def check_teachers(teachers: Mapping[str, Any], keys: Sequence[str]) -> None:
    """`GreamError` for a key or a weight that cannot be, before anything is read."""
    for name, given in teachers.items():
        if not isinstance(given, Mapping):
            raise GreamError(f"teachers: {name} is {given!r}: give {{base_url: …, model: …, weight: …}}")
        allowed = ("weight",) if name == TEMPLATE else (*keys, "weight")
        if wrong := [key for key in given if key not in allowed]:
            raise GreamError(f"teachers: {name} has no key {wrong[0]!r}; it has {', '.join(allowed)}")
        weight = given.get("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise GreamError(f"teachers: the weight of {name} is {weight!r}: give a number above 0")


def teachers_of(settings: Any, workspace: Workspace) -> list[Weighted]:
    """The teachers that `ReasonSettings` name, each with what it says differently from the options of the stage."""
    if not settings.teachers:
        name = settings.model if settings.teacher != TEMPLATE else TEMPLATE
        return [Weighted(TEACHERS[settings.teacher](name, settings, workspace), 1.0)]
    made = []
    for name, given in settings.teachers.items():
        own = {key: value for key, value in given.items() if key != "weight"}
        make = TEACHERS[TEMPLATE if name == TEMPLATE else "llm"]
        made.append(Weighted(make(name, replace(settings, teachers={}, **own), workspace), given.get("weight", 1)))
    return made


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
