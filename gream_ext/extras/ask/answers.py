"""What is asked of an LLM, from a template file, and what is taken off or refused in any answer."""

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from gream_ext.corpus.prompts import template_text
from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Request
from gream_ext.words import split_words

REFUSAL = re.compile(
    r"\b(as an ai\b|as a language model|i(?:'|’)?m sorry|i am sorry|i can(?:no|')t (?:help|assist|write))", re.I
)
THINKING = re.compile(r"^\s*<think>.*?</think>\s*", re.S)
MARKERS = re.compile(r"<\||</?(?:think|answer)>")
"""What a tokenizer of ours takes for a marker, a token or an identifier: no LLM may write it."""

Template = tuple[string.Template, string.Template]
"""The system and the user message, with $slots."""


def read_template(name: str, path: str | None, slots: Sequence[str], needed: Sequence[str]) -> Template:
    """A template file with the parts [system] and [user]: the shipped one called ``name``, or the file ``path``.

    It may use ``slots`` and must use those ``needed``; `GreamError` names the file.
    """
    try:
        text = Path(path).read_text(encoding="utf-8") if path else template_text(name, "gream_ext.extras.ask")
    except (OSError, UnicodeDecodeError) as error:
        raise GreamError(f"template {path} cannot be read: {error}") from None
    parts = re.fullmatch(r"\s*\[system\]\n(.*?)\n\[user\]\n(.*)", text, re.S)
    if not parts:
        raise GreamError(f"{path or name} needs a line [system], its text, a line [user] and its text")
    system, user = (string.Template(part.strip()) for part in parts.groups())
    used = {*system.get_identifiers(), *user.get_identifiers()}
    if not (system.is_valid() and user.is_valid()) or used - set(slots) or not set(needed) <= used:
        known = ", ".join(f"${slot}" + (" (it must)" if slot in needed else "") for slot in slots)
        raise GreamError(f"{path or name} may use {known}, and $$ for a dollar sign")
    return system, user


def request_of(key: str, template: Template, slots: Mapping[str, str]) -> Request:
    """The question in a template's words."""
    roles = ("system", "user")
    return Request(
        key, [{"role": role, "content": part.substitute(slots)} for role, part in zip(roles, template, strict=True)]
    )


def without_thinking(answer: str) -> str:
    """An answer without the thinking that a reasoning model writes before it.

    >>> without_thinking("<think>hm</think> Fine.")
    'Fine.'
    """
    return THINKING.sub("", answer).strip()


def one_line(answer: str) -> str:
    """An answer without thinking, white space made single.

    >>> one_line("<think>hm</think> A  fine\\nthing. ")
    'A fine thing.'
    """
    return " ".join(without_thinking(answer).split())


def common_fault(text: str) -> str | None:
    """What is wrong with any answer, whatever was asked, or None; a reason is named before its colon."""
    if MARKERS.search(text):
        return "markers: special tokens in it, or thinking that did not end"
    if REFUSAL.search(text[:200]):
        return "refusal: the LLM did not want to"
    words = split_words(text.lower())
    if len(set(words)) < len(words) / 6:
        return "repetition: the same words over and over"
    return None
