"""What is asked of an LLM, from a template file, and what is taken off or refused in any answer."""

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Request

REFUSAL = re.compile(
    r"\b(as an ai\b|as a language model|i(?:'|’)?m sorry|i am sorry|i can(?:no|')t (?:help|assist|write))", re.I
)
THINKING = re.compile(r"^\s*<think>.*?</think>\s*", re.S)

Template = tuple[string.Template, string.Template]
"""The system and the user message, with $slots."""


def template_source(shipped: str, path: str | None) -> str:
    """The text of the file ``path``, or without one the ``shipped`` text; `GreamError` names the file."""
    if path is None:
        return shipped
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GreamError(f"template {path} cannot be read: {error}") from None


def parse_template(text: str, name: str, slots: Sequence[str], needed: Sequence[str]) -> Template:
    """The parts [system] and [user] of a template called ``name``.

    It may use ``slots`` and must use those ``needed``; `GreamError` names the file.
    """
    parts = re.fullmatch(r"\s*\[system\]\n(.*?)\n\[user\]\n(.*)", text, re.S)
    if not parts:
        raise GreamError(f"{name} needs a line [system], its text, a line [user] and its text")
    system, user = (string.Template(part.strip()) for part in parts.groups())
    used = {*system.get_identifiers(), *user.get_identifiers()}
    if not (system.is_valid() and user.is_valid()) or used - set(slots) or not set(needed) <= used:
        known = ", ".join(f"${slot}" + (" (it must)" if slot in needed else "") for slot in slots)
        raise GreamError(f"{name} may use {known}, and $$ for a dollar sign")
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
