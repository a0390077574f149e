"""What the stages that ask an LLM for training text share: their template files, what is wrong with any answer."""

import re
from collections.abc import Sequence

from gream_ext.corpus.prompts import template_text
from gream_ext.extras.ask.wording import REFUSAL, Template, parse_template, template_source
from gream_ext.words import split_words

MARKERS = re.compile(r"<\||</?(?:think|answer)>")
"""What a tokenizer of ours takes for a marker, a token or an identifier: no LLM may write it."""


def read_template(name: str, path: str | None, slots: Sequence[str], needed: Sequence[str]) -> Template:
    """A template file with the parts [system] and [user]: the shipped one called ``name``, or the file ``path``.

    It may use ``slots`` and must use those ``needed``; `GreamError` names the file.
    """
    shipped = "" if path else template_text(name, "gream_ext.extras.ask")
    return parse_template(template_source(shipped, path), path or name, slots, needed)


def common_fault(text: str) -> str | None:
    """What is wrong with any answer, whatever was asked, or None; a reason is named before its colon."""
    if MARKERS.search(text):
        return "markers: special tokens in it, or thinking that did not end"
    if REFUSAL.search(text[:200]):
        return "refusal: the LLM did not want to"
    said = split_words(text.lower())
    if len(set(said)) < len(said) / 6:
        return "repetition: the same words over and over"
    return None
