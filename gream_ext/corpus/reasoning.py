"""The five stages of a reasoning answer as text: ``templates/reasoning.txt`` filled in, read back, and checked."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from gream_ext.corpus.prompts import SEPARATOR, template_text
from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.identifiers import find_all, parse
from gream_ext.words import mentions, word_count

MAX_WORDS = 250
"""Longest thinking, in words: all before the rewritten history."""


@dataclass(frozen=True)
class Reasoning:
    """The stages of section 4.2 in the order of the appendix, and the answer."""

    evidence: str
    preferences: str
    intent: str
    kept: str
    """The denoised history: identifiers joined by ``, ``."""
    justification: str
    answer: str
    """The identifier of the recommended item."""

    def render(self, words: Words = PRODUCT) -> str:
        """The response that a model is trained to give."""
        return words.put_into(template_text("reasoning.txt")).format(**vars(self))


class Malformed(ValueError):
    """A text that is not in the format; the message says which part is missing or out of order."""


def read_reasoning(text: str, words: Words = PRODUCT) -> Reasoning:
    """Take a response in a domain's ``words`` apart; white space between the parts may differ. Raises `Malformed`.

    >>> read_reasoning("<think> Step 1: Extraction of Behavioral Evidence: tea.")
    Traceback (most recent call last):
    ...
    gream_ext.corpus.reasoning.Malformed: no 'Step 2: Modeling of Latent Preferences:'
    """
    rest = " ".join(text.split())
    fixed = fixed_parts(words)
    values = []
    for number, part in enumerate(fixed):
        before, found, rest = rest.partition(part)
        if not found:
            raise Malformed(f"no {part!r}")
        if number == 0 and before:
            raise Malformed(f"{before[:20]!r} stands before {part!r}")
        if number:
            values.append(before.strip())
    if rest:
        raise Malformed(f"{rest[:20]!r} stands after {fixed[-1]!r}")
    stages = Reasoning(*values)
    if empty := [name for name, value in vars(stages).items() if not value]:
        raise Malformed(f"{empty[0]} is empty")
    return stages


@cache
def fixed_parts(words: Words = PRODUCT) -> tuple[str, ...]:
    """What stands before each stage of `Reasoning` in their order, and after the last; white space made single.

    >>> fixed_parts()[3]
    "</think> Let's rewrite the user's purchase history:"
    """
    parts = re.split(r"\{\w+\}", words.put_into(template_text("reasoning.txt")))
    return tuple(" ".join(part.split()) for part in parts)


def validate_reasoning(
    text: str,
    history: Sequence[str],
    target: str,
    title: str = "",
    max_words: int = MAX_WORDS,
    words: Words = PRODUCT,
) -> str | None:
    """Why a response may not be trained on, or None.

    ``history`` and ``target`` are identifiers as text, ``title`` the target's. Checked in this
    order: all stages there, in order, none empty; thinking within ``max_words``; neither title nor
    identifier of the target before the justification; the rewritten history a sub-sequence of the
    real one; the answer the true identifier and nothing else. The part before the first ``:`` of a
    reason is the same for all answers that fail alike.
    """
    try:
        stages = read_reasoning(text, words)
    except Malformed as error:
        return f"stages: {error}"
    thinking = f"{stages.evidence} {stages.preferences} {stages.intent}"
    length = word_count(thinking)
    if length > max_words:
        return f"too long: {length} words of thinking, at most {max_words}"
    before = f"{thinking} {stages.kept}"
    if parse(target) in find_all(before):
        return "leak: the target's identifier stands before the justification"
    if title and mentions(before, title):
        return "leak: the target's title stands before the justification"
    kept = stages.kept.split(SEPARATOR)
    if any(parse(identifier) is None for identifier in kept):
        return "rewriting: the rewritten history is not a list of identifiers"
    if not is_subsequence(kept, history):
        return "rewriting: the rewritten history is not a sub-sequence of the history"
    if "<answer>" in stages.justification or text.count("</think>") != 1:
        return "stages: a marker stands twice"
    if stages.answer != target:
        return "answer: it is not the true next item"
    return None


def is_subsequence(part: Iterable[str], whole: Sequence[str]) -> bool:
    """Whether ``part`` is ``whole`` with some left out.

    >>> is_subsequence("ac", "abc"), is_subsequence("ca", "abc")
    (True, False)
    """
    left = iter(whole)
    return all(element in left for element in part)
