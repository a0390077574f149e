"""What the stages that ask an LLM share: their options, their template files, what is wrong with any answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gream_ext.corpus.prompts import template_text
from gream_ext.errors import GreamError
from gream_ext.llm import Endpoint
from gream_ext.llm.wording import REFUSAL, Template, parse_template, template_source
from gream_ext.stage import option

REQUESTS = "requests"
"""The folder of what an LLM is asked. ``templates/`` has what a student reads: its tokenizer learns from all of it."""
MARKERS = re.compile(r"<\||</?(?:think|answer)>")
"""What a tokenizer of ours takes for a marker, a token or an identifier: no LLM may write it."""


@dataclass(frozen=True)
class AskSettings:
    """Where an LLM is asked, and how; needs no key of ours but the name of its variable."""

    base_url: str = option("", help="address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1")
    model: str = option("", help="name of the model at that endpoint")
    api_key_env: str | None = option(None, help="environment variable that holds the endpoint's key")
    concurrency: int = option(8, help="requests under way at once")
    max_tokens: int = option(1024, help="longest answer of the LLM, in tokens")
    temperature: float = option(0.7, help="sampling temperature of the LLM")
    timeout: float = option(120.0, help="seconds for one request")
    attempts: int = option(6, help="how often a request is sent while the endpoint fails, stalls or says 429")
    rejections: int = option(3, help="rejected answers that one question may cost")
    tolerate: float = option(0.05, help="share of the questions that may stay without an answer; more is an error")
    dry_run: bool = option(False, help="only say how many requests and tokens an LLM would take")

    def __post_init__(self) -> None:
        if not 0 <= self.tolerate <= 1:
            raise GreamError(f"tolerate is {self.tolerate}: give a number from 0 to 1")


ENDPOINT_KEYS = (
    "base_url", "model", "api_key_env", "max_tokens", "temperature", "concurrency", "timeout", "attempts", "rejections",
)  # fmt: skip


def endpoint_of(settings: AskSettings, **other: Any) -> Endpoint:
    """The endpoint that the settings name; ``other`` takes the place of some of them."""
    chosen = {name: getattr(settings, name) for name in ENDPOINT_KEYS} | other
    for name in ("base_url", "model"):
        if not chosen[name]:
            raise GreamError(f"an LLM needs --{name.replace('_', '-')}")
    return Endpoint(**chosen)


def read_template(name: str, path: str | None, slots: Sequence[str], needed: Sequence[str]) -> Template:
    """A template file with the parts [system] and [user]: the shipped one called ``name``, or the file ``path``.

    It may use ``slots`` and must use those ``needed``; `GreamError` names the file.
    """
    shipped = "" if path else template_text(name, REQUESTS)
    return parse_template(template_source(shipped, path), path or name, slots, needed)


def common_fault(text: str) -> str | None:
    """What is wrong with any answer, whatever was asked, or None; a reason is named before its colon."""
    if MARKERS.search(text):
        return "markers: special tokens in it, or thinking that did not end"
    if REFUSAL.search(text[:200]):
        return "refusal: the LLM did not want to"
    words = text.lower().split()
    if len(set(words)) < len(words) / 6:
        return "repetition: the same words over and over"
    return None
