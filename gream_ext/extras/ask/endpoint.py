"""A question to an LLM, and where and how it is asked."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from gream_ext.corpus.ask_settings import ENDPOINT_KEYS, AskSettings
from gream_ext.errors import GreamError
from gream_ext.extras.ask.ledger import request_hash


@dataclass(frozen=True)
class Request:
    """One question. ``key`` is the caller's name for it, e.g. an item_id."""

    key: str
    messages: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, and how. ``base_url`` is what precedes ``/chat/completions``."""

    base_url: str
    model: str
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; None sends no key."""
    max_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 1.0
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the request body, e.g. ``{"chat_template_kwargs": {"enable_thinking": False}}``."""
    concurrency: int = 8
    timeout: float = 120.0
    """Seconds that an attempt may go without a byte."""
    attempts: int = 6
    """How often a request is sent while the endpoint fails, stalls or says 429."""
    rejections: int = 3
    """How many answers that `Validate` rejects are paid for before the request is reported."""
    give_up_after: int = 20
    """So many requests failing one after another, none succeeding between, end the batch."""

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.base_url)
            sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise GreamError("base_url is no http(s) address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query:
            raise GreamError("base_url must not hold a user, a password or a query: name the key by api_key_env")
        for name in ("max_tokens", "concurrency", "timeout", "attempts", "rejections", "give_up_after"):
            if getattr(self, name) <= 0:
                raise GreamError(f"{name} is {getattr(self, name)}: it must be above 0")

    @property
    def settings(self) -> dict[str, Any]:
        """What of the settings changes an answer, and so belongs to the hash of a request."""
        chosen = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p, **self.extra}
        return chosen if self.seed is None else {**chosen, "seed": self.seed}

    def hash(self, request: Request) -> str:
        return request_hash(self.model, request.messages, self.settings)

    def api_key(self) -> str:
        """The key, or "" for none; `GreamError` when its variable is not set."""
        if self.api_key_env is None:
            return ""
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise GreamError(f"environment variable {self.api_key_env} is not set: put the endpoint's key into it")
        if not (key.isascii() and key.isprintable()):
            raise GreamError(f"environment variable {self.api_key_env} holds characters that no key has")
        return key


def endpoint_of(settings: AskSettings) -> Endpoint:
    """The endpoint that a stage's options name."""
    for name in ("base_url", "model"):
        if not getattr(settings, name):
            raise GreamError(f"an LLM needs --{name.replace('_', '-')}")
    return Endpoint(**{name: getattr(settings, name) for name in ENDPOINT_KEYS})
