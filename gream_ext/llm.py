"""Many requests to an LLM behind an OpenAI-compatible endpoint: concurrent, retried, resumable.

    endpoint = Endpoint("http://127.0.0.1:8000/v1", "qwen3-4b", api_key_env="MY_KEY")
    outcome = ask(endpoint, [Request("item-7", messages)], Path("ledger.jsonl"), validate=good_enough)

Every answer is written to the ledger the moment it comes back, so that a batch which is interrupted goes on
where it stopped. The API key is read from an environment variable and stands in no file, log or message.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gream_ext.errors import GreamError
from gream_ext.llm_ledger import Ledger, read_ledger, request_hash

Validate = Callable[["Request", str], str | None]
"""Says why an answer is not good enough, or None when it is."""

CHARACTERS_A_TOKEN = 4
"""Rule of thumb for estimates, since the endpoint's tokenizer is not known here."""


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
    """Seconds for one attempt, from sending to the last byte."""
    attempts: int = 6
    """How often a request is sent while the endpoint fails, stalls or says 429."""
    rejections: int = 3
    """How many answers that `Validate` rejects are paid for before the request is reported."""
    backoff: float = 1.0
    """Seconds before the second attempt; doubles, with jitter, up to ``backoff_limit``."""
    backoff_limit: float = 60.0
    retry_after_limit: float = 900.0
    """A longer Retry-After is not waited for: the request is reported."""
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
    def url(self) -> str:
        return self.base_url.rstrip("/") + "/chat/completions"

    @property
    def settings(self) -> dict[str, Any]:
        """What of the settings changes an answer, and so belongs to the hash of a request."""
        chosen = {"max_tokens": self.max_tokens, "temperature": self.temperature, "top_p": self.top_p, **self.extra}
        return chosen if self.seed is None else {**chosen, "seed": self.seed}

    def hash(self, request: Request) -> str:
        return request_hash(self.model, request.messages, self.settings)

    def api_key(self) -> str | None:
        """The key; `GreamError` when its variable is not set."""
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise GreamError(f"environment variable {self.api_key_env} is not set: put the endpoint's key into it")
        if not (key.isascii() and key.isprintable()):
            raise GreamError(f"environment variable {self.api_key_env} holds characters that no key has")
        return key


@dataclass(frozen=True)
class Outcome:
    """What a batch came to: each request's key stands in exactly one of the two."""

    answers: dict[str, str]
    failures: dict[str, str]
    """Why a request has no answer, in one line."""
    asked: int
    """Answers that were paid for in this run, rejected ones included."""
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a batch would cost, without asking anything."""

    requests: int
    """Still to be sent; equal ones count once."""
    answered: int
    """Already in the ledger."""
    prompt_tokens: int
    answer_tokens_at_most: int

    def __str__(self) -> str:
        return (
            f"{self.requests} requests to send, {self.answered} answered already; about {self.prompt_tokens} prompt "
            f"tokens ({CHARACTERS_A_TOKEN} characters a token), at most {self.answer_tokens_at_most} answer tokens"
        )


def accept_everything(request: Request, text: str) -> str | None:
    return None


def estimate(
    endpoint: Endpoint, requests: Sequence[Request], ledger: Path, validate: Validate = accept_everything
) -> Estimate:
    """Requests and tokens that `ask` would send now; reads the ledger, sends nothing."""
    known: dict[str, list[dict[str, Any]]] = {}
    for line in read_ledger(ledger):
        known.setdefault(line["hash"], []).append(line)
    open_ones = {
        endpoint.hash(request): request
        for request in requests
        if accepted(known.get(endpoint.hash(request), ()), request, validate) is None
    }
    characters = sum(len(message["content"]) for request in open_ones.values() for message in request.messages)
    answered = len({endpoint.hash(request) for request in requests}) - len(open_ones)
    return Estimate(len(open_ones), answered, characters // CHARACTERS_A_TOKEN, len(open_ones) * endpoint.max_tokens)


def accepted(lines: Sequence[Mapping[str, Any]], request: Request, validate: Validate) -> str | None:
    """The newest answer of the ledger that is good enough by today's rule."""
    for line in reversed(lines):
        if not line.get("cut") and validate(request, line["text"]) is None:
            return str(line["text"])
    return None


def ask(
    endpoint: Endpoint,
    requests: Sequence[Request],
    ledger: Path,
    validate: Validate = accept_everything,
    description: str = "asking",
) -> Outcome:
    """Ask everything that ``ledger`` has no good answer for, and return all answers.

    A request whose endpoint fails, stalls or says 429 is sent again; an answer that ``validate``
    rejects or that was cut at ``max_tokens`` is asked for again, ``rejections`` times. What still fails
    stands in ``failures``. On Ctrl-C the requests under way are waited for (they are paid for), a second one
    stops at once. `GreamError`: a wrong key, address or model (401, 403, 404), or an endpoint that
    fails again and again.
    """
    import asyncio

    from gream_ext.llm_client import Client

    keys = [request.key for request in requests]
    if len(set(keys)) != len(keys):
        raise GreamError(f"two requests have the key {max(keys, key=keys.count)!r}")
    with Ledger(ledger) as book:
        return asyncio.run(Client(endpoint, book, validate).run(requests, description))
