"""Reads an answer out of a text: what a response of either mode says, and why it says nothing.

Knows no item and no target. Loads the standard library only, raises for no string, and takes time linear in its length.
"""

from dataclasses import dataclass
from typing import Any, Literal

from gream_ext.identifiers import Identifier, parse

Mode = Literal["reason", "direct"]

UNREADABLE = {
    "not_text": "the response is not a string",
    "unfinished_reasoning": "the reasoning was begun and never ended, so nothing stands after it",
    "no_answer": "there is no answer after the reasoning",
    "unfinished_answer": "the answer was begun and never ended",
    "several_answers": "there is more than one answer, or one within another",
    "empty_answer": "the answer is blank",
    "not_an_identifier": "the answer is, or also holds, something that is no identifier",
}
"""Why a response gives no identifier: each status of `read`, in words."""


@dataclass(frozen=True)
class AnswerFormat:
    """Where the answer stands in a response, and how its levels are written.

    ``separator`` None means identifier tokens, ``<|a_1|><|b_2|>``; otherwise the levels are the
    parts between separators, white space around each taken off. What begins a part must differ
    from what ends it: with ``$…$`` every answer would be several.
    """

    answer_begin: str = "<answer>"
    answer_end: str = "</answer>"
    reasoning_begin: str = "<think>"
    reasoning_end: str = "</think>"
    separator: str | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, str) and value) and not (name == "separator" and value is None):
                or_none = ", or None for identifier tokens" if name == "separator" else ""
                raise ValueError(f"{name} must be a string of at least one character{or_none}, not {value!r}")
        for part, begin, end in (
            ("answer", self.answer_begin, self.answer_end),
            ("reasoning", self.reasoning_begin, self.reasoning_end),
        ):
            if begin == end:
                raise ValueError(f"{part}_begin and {part}_end must differ: both are {end!r}")


DEFAULT_FORMAT = AnswerFormat()


def read(
    text: Any, mode: str = "reason", answer_format: AnswerFormat = DEFAULT_FORMAT
) -> tuple[Identifier | None, str]:
    """The identifier that a response gives as its answer and ``""``, or None and a status of `UNREADABLE`.

    In ``reason`` mode that is what stands in the one ``<answer>…</answer>`` after the last
    ``</think>``; a response with no reasoning at all may be an answer alone. In ``direct`` mode
    it is the whole response. White space around it is allowed, anything else is not.

    >>> read("<think>…</think> so <answer> <|a_1|><|b_2|> </answer>")
    (('<|a_1|>', '<|b_2|>'), '')
    >>> read("<|a_1|>, I think", mode="direct")
    (None, 'not_an_identifier')
    """
    if mode not in ("reason", "direct"):
        raise ValueError(f"mode must be 'reason' or 'direct', not {mode!r}")
    if not isinstance(text, str):
        return None, "not_text"
    if mode == "direct":
        answer, empty = text.strip(), "no_answer"
    else:
        begin, end = answer_format.answer_begin, answer_format.answer_end
        start = text.rfind(answer_format.reasoning_end)
        if start < 0 and answer_format.reasoning_begin in text:
            return None, "unfinished_reasoning"
        start = 0 if start < 0 else start + len(answer_format.reasoning_end)
        opened = text.find(begin, start)
        if opened < 0:
            return None, "no_answer"
        closed = text.find(end, opened + len(begin))
        if text.find(begin, opened + len(begin)) >= 0:
            return None, "several_answers"
        if closed < 0:
            return None, "unfinished_answer"
        if text.find(end, closed + len(end)) >= 0 or text.find(end, start, opened) >= 0:
            return None, "several_answers"
        answer, empty = text[opened + len(begin) : closed].strip(), "empty_answer"
    if not answer:
        return None, empty
    identifier = split(answer, answer_format.separator)
    return (identifier, "") if identifier else (None, "not_an_identifier")


def split(text: str, separator: str | None = None) -> Identifier | None:
    """The levels of an identifier; None when ``text`` spells none, or a level of it is blank.

    >>> split("Home > Kitchen > Pans", ">")
    ('Home', 'Kitchen', 'Pans')
    """
    if separator is None:
        return parse(text)
    parts = tuple(part.strip() for part in text.split(separator))
    return parts if all(parts) else None
