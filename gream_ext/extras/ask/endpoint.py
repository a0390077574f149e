"""A question to an LLM, what identifies it, and what comes of a batch of them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.errors import GreamError


@dataclass(frozen=True)
class Request:
    """One question. ``key`` is the caller's name for it, e.g. an item_id."""

    key: str
    messages: Sequence[Mapping[str, str]]


Validate = Callable[[Request, str], str | None]
"""Says why an answer is not good enough, or None when it is."""


@dataclass(frozen=True)
class Outcome:
    """What a batch came to: each request's key is in exactly one of ``answers`` and ``failures`` (with the reason).

    ``asked`` counts the answers that this run paid for, rejected ones included.
    """

    answers: dict[str, str]
    failures: dict[str, str]
    asked: int
    prompt_tokens: int = 0
    answer_tokens: int = 0

    @property
    def cost(self) -> str:
        return f"{self.asked} answers paid for now, {self.prompt_tokens} prompt and {self.answer_tokens} answer tokens"


def check_endpoint(settings: AskSettings) -> None:
    """`GreamError` unless the settings name a model and an address that can be asked."""
    for name in ("base_url", "model"):
        if not getattr(settings, name):
            raise GreamError(f"an LLM needs --{name.replace('_', '-')}")
    try:
        parts = urlsplit(settings.base_url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise GreamError("base_url is no http(s) address such as http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query:
        raise GreamError("base_url must not hold a user, a password or a query: name the key by api_key_env")


def request_fields(settings: AskSettings) -> dict[str, Any]:
    """The fields of a request that change its answer, and so belong to its hash."""
    return {"max_tokens": settings.max_tokens, "temperature": settings.temperature, "top_p": 1.0, **settings.extra}


def request_hash(model: str, messages: Sequence[Mapping[str, str]], fields: Mapping[str, Any]) -> str:
    """What an answer depends on, as 32 hexadecimal digits; the endpoint's address is no part of it.

    >>> request_hash("m", [{"role": "user", "content": "hello"}], {"max_tokens": 5})
    'b4e109a493cb2c12fdf8fa5ce55f218c'
    """
    content = json.dumps([model, [dict(message) for message in messages], dict(fields)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def by_hash(settings: AskSettings, requests: Iterable[Request]) -> dict[str, list[Request]]:
    """The requests by what they ask, so that equal ones are sent once."""
    same: dict[str, list[Request]] = {}
    for request in requests:
        same.setdefault(request_hash(settings.model, request.messages, request_fields(settings)), []).append(request)
    return same


def api_key(settings: AskSettings) -> str:
    """The key, or "" for none; `GreamError` when its variable is not set."""
    if settings.api_key_env is None:
        return ""
    key = os.environ.get(settings.api_key_env, "").strip()
    if not key:
        raise GreamError(f"environment variable {settings.api_key_env} is not set: put the endpoint's key into it")
    if not (key.isascii() and key.isprintable()):
        raise GreamError(f"environment variable {settings.api_key_env} holds characters that no key has")
    return key
