"""Is a teacher's answer fit for training? Every one is checked before it enters the reasoning data."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gream_ext.corpus.prompts import SEPARATOR
from gream_ext.corpus.reasoning import Malformed, read_reasoning
from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.identifiers import find_all, parse
from gream_ext.words import mentions, word_count

if TYPE_CHECKING:
    from gream_ext.corpus.teacher import Question

MAX_WORDS = 250
"""Longest thinking, in words: all before the rewritten history."""


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


def answer_fault(text: str, question: "Question", max_words: int = MAX_WORDS, words: Words = PRODUCT) -> str | None:
    """`validate_reasoning` of an answer to ``question``."""
    history = [item.identifier for item in question.history]
    return validate_reasoning(text, history, question.target.identifier, question.target.title, max_words, words)


def is_subsequence(part: Iterable[str], whole: Sequence[str]) -> bool:
    """Whether ``part`` is ``whole`` with some left out.

    >>> is_subsequence("ac", "abc"), is_subsequence("ca", "abc")
    (True, False)
    """
    left = iter(whole)
    return all(element in left for element in part)
