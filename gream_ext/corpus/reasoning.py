"""The five stages of a reasoning answer as text: ``templates/reasoning.txt`` filled in, or read back."""

import re
from dataclasses import dataclass, fields
from functools import cache

from gream_ext.corpus.prompts import template_text
from gream_ext.corpus.words import PRODUCT, Words


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
    for field in fields(stages):
        if not getattr(stages, field.name):
            raise Malformed(f"{field.name} is empty")
    return stages


@cache
def fixed_parts(words: Words = PRODUCT) -> tuple[str, ...]:
    """What stands before each stage of `Reasoning` in their order, and after the last; white space made single.

    >>> fixed_parts()[3]
    "</think> Let's rewrite the user's purchase history:"
    """
    parts = re.split(r"\{\w+\}", words.put_into(template_text("reasoning.txt")))
    return tuple(" ".join(part.split()) for part in parts)
