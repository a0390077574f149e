"""What a batch of requests came to, and which answers are good enough."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gream_ext.extras.ask.endpoint import Endpoint, Request

Validate = Callable[[Request, str], str | None]
"""Says why an answer is not good enough, or None when it is."""


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

    @property
    def cost(self) -> str:
        return f"{self.asked} answers paid for now, {self.prompt_tokens} prompt and {self.answer_tokens} answer tokens"


def accept_everything(request: Request, text: str) -> str | None:
    return None


def accepted(lines: Sequence[Mapping[str, Any]], request: Request, validate: Validate) -> str | None:
    """The newest answer of the ledger that is good enough by today's rule."""
    for line in reversed(lines):
        if not line.get("cut") and validate(request, line["text"]) is None:
            return str(line["text"])
    return None


def without_equal(requests: Iterable[Request], endpoint: Endpoint) -> dict[str, list[Request]]:
    """The requests by what they ask, so that equal ones are sent once."""
    same: dict[str, list[Request]] = {}
    for request in requests:
        same.setdefault(endpoint.hash(request), []).append(request)
    return same
