"""A batch of requests: what it would cost, and asking it."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Outcome, Request, Validate, by_hash, check_endpoint
from gream_ext.extras.ask.ledger import accepted, by_request, open_ledger, read_ledger

CHARACTERS_A_TOKEN = 4
"""Rule of thumb for estimates, since the endpoint's tokenizer is not known here."""


@dataclass(frozen=True)
class Estimate:
    """What a batch would cost: requests still to be sent (equal ones count once), and those answered already."""

    requests: int
    answered: int
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
    settings: AskSettings, requests: Sequence[Request], ledger: Path, validate: Validate = accept_everything
) -> Estimate:
    """Requests and tokens that `ask` would send now; reads the ledger, sends nothing."""
    check_endpoint(settings)
    lines, same = by_request(read_ledger(ledger)), by_hash(settings, requests)
    waiting = [group[0] for known, group in same.items() if accepted(lines, known, group[0], validate) is None]
    characters = sum(len(message["content"]) for request in waiting for message in request.messages)
    tokens = characters // CHARACTERS_A_TOKEN, len(waiting) * settings.max_tokens
    return Estimate(len(waiting), len(same) - len(waiting), *tokens)


def ask(
    settings: AskSettings,
    requests: Sequence[Request],
    ledger: Path,
    validate: Validate = accept_everything,
    description: str = "asking",
) -> Outcome:
    """Ask everything that ``ledger`` has no good answer for, and return all answers.

    A request whose endpoint fails, stalls or says 429 is sent again; an answer that ``validate`` rejects or that was
    cut at ``max_tokens`` is asked for again, ``rejections`` times. What still fails stands in ``failures``. On Ctrl-C
    the requests under way are waited for (they are paid for), a second one stops at once. `GreamError`: a wrong key,
    address or model (401, 403, 404), or an endpoint that fails again and again.
    """
    try:
        from gream_ext.extras.ask.client import Client  # imports openai, of the extra
    except ModuleNotFoundError as error:
        raise GreamError(f"asking an LLM needs {error.name}: pip install 'gream-ext[enrich]'") from None

    check_endpoint(settings)
    keys = [request.key for request in requests]
    if len(set(keys)) != len(keys):
        raise GreamError(f"two requests have the key {max(keys, key=keys.count)!r}")
    with open_ledger(ledger) as book:
        return asyncio.run(Client(settings, book, validate).run(requests, description))


def ask_all(
    label: str, settings: AskSettings, requests: Sequence[Request], ledger: Path, validate: Validate,
    write: Callable[[Outcome], str], total: int, things: str, left: str,
) -> None:  # fmt: skip
    """Ask, write what was answered, and say what is missing; `GreamError` where that is too much of ``total``."""
    if settings.dry_run:
        print(f"{label}: {estimate(settings, requests, ledger, validate)}")
        return
    outcome = ask(settings, requests, ledger, validate, label)
    print(f"{label}: {write(outcome)}; {outcome.cost}")
    missing = outcome.failures
    first = "; ".join(f"{key}: {reason}" for key, reason in list(missing.items())[:3])
    if len(missing) > settings.tolerate * total:
        raise GreamError(
            f"{label}: {len(missing)} of {total} {things} have no answer ({first}): run again to ask for them once "
            f"more, or set --tolerate to the share that may be missing; they then {left}"
        )
    if missing:
        print(f"{label}: {len(missing)} {things} {left} ({first})", file=sys.stderr)
