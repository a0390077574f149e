"""The asynchronous inside of `gream_ext.extras.ask.ask`; imports httpx."""

import asyncio
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from tqdm import tqdm

from gream_ext.errors import GreamError
from gream_ext.extras.ask.batch import Outcome, Validate, accepted
from gream_ext.extras.ask.endpoint import Endpoint, Request
from gream_ext.extras.ask.ledger import Ledger

RETRIED = {408, 409, 425, 429}
"""Client errors that time may heal; every 5xx is retried too."""
HOPELESS = {401, 403, 404}
"""Errors that every other request of the batch would meet as well."""
EXCERPT = 160
"""Characters of an endpoint's error body that are repeated to the user."""


class _Trouble(Exception):
    """An attempt failed; sending again may help."""

    def __init__(self, reason: str, wait: float | None = None):
        super().__init__(reason)
        self.wait = wait


class _Refused(Exception):
    """The endpoint will never answer this request."""


@dataclass(frozen=True)
class _Completion:
    text: str
    cut: bool
    usage: dict[str, Any]


class Client:
    """Runs one batch: workers that take requests from a queue, wait together when told to, and write the ledger."""

    def __init__(self, endpoint: Endpoint, ledger: Ledger, validate: Validate):
        self.endpoint, self.ledger, self.validate = endpoint, ledger, validate
        self.key = endpoint.api_key()
        self.answers: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.asked = self.prompt_tokens = self.answer_tokens = 0
        self.failed_in_a_row = 0
        self.resume_at = 0.0  # time.monotonic(); set by Retry-After for all workers alike
        self.stop = asyncio.Event()

    async def run(self, requests: Sequence[Request], description: str) -> Outcome:
        """Answer ``requests``; equal ones are sent once."""
        same: dict[str, list[Request]] = {}
        for request in requests:
            same.setdefault(self.endpoint.hash(request), []).append(request)
        found = {known: accepted(self.ledger.answers(known), group[0], self.validate) for known, group in same.items()}
        texts = {known: text for known, text in found.items() if text is not None}
        reasons: dict[str, str] = {}
        waiting = deque(known for known in same if known not in texts)
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        limits = httpx.Limits(max_connections=self.endpoint.concurrency)
        with tqdm(total=len(same), initial=len(texts), desc=description, unit="request", file=sys.stderr) as bar:

            async def work(client: httpx.AsyncClient) -> None:
                while waiting and not self.stop.is_set():
                    known = waiting.popleft()
                    try:
                        texts[known] = await self._answer(client, known, same[known][0])
                        self.failed_in_a_row = 0
                    except _Refused as error:
                        reasons[known] = str(error)
                        self._count_failure(str(error))
                    bar.update()

            async with httpx.AsyncClient(headers=headers, limits=limits, timeout=None) as client:
                await self._until_done([work(client) for _ in range(min(self.endpoint.concurrency, len(waiting)))])
        if self.stop.is_set():
            raise KeyboardInterrupt
        return Outcome(
            {request.key: texts[known] for known, group in same.items() if known in texts for request in group},
            {request.key: reasons[known] for known, group in same.items() if known in reasons for request in group},
            self.asked,
            self.prompt_tokens,
            self.answer_tokens,
        )

    async def _until_done(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run the workers; Ctrl-C lets the requests under way come back, a second one does not."""
        loop = asyncio.get_running_loop()
        workers = [asyncio.create_task(one) for one in work]

        def interrupt() -> None:
            if self.stop.is_set():
                for worker in workers:
                    worker.cancel()
            else:
                self.stop.set()
                print("\ninterrupted: waiting for the requests under way, Ctrl-C again to drop them", file=sys.stderr)

        with suppress(RuntimeError, ValueError, NotImplementedError):  # not in the main thread
            loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            await asyncio.gather(*workers)
        except asyncio.CancelledError:
            if not self.stop.is_set():
                raise
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            with suppress(RuntimeError, ValueError, NotImplementedError):
                loop.remove_signal_handler(signal.SIGINT)

    async def _answer(self, client: httpx.AsyncClient, known: str, request: Request) -> str:
        """One good answer, after as many attempts and rejections as are allowed."""
        troubles = rejected = 0
        while True:
            await self._sleep(self.resume_at - time.monotonic())
            try:
                completion = await self._attempt(client, request, rejected)
            except _Trouble as trouble:
                troubles += 1
                if troubles >= self.endpoint.attempts:
                    raise _Refused(f"{trouble}, {troubles} times") from None
                await self._back_off(troubles, trouble.wait)
                continue
            why = f"cut at max_tokens={self.endpoint.max_tokens}" if completion.cut else None
            why = why or self.validate(request, completion.text)
            self._book(known, request, completion, why)
            if why is None:
                return completion.text
            rejected += 1
            if rejected >= self.endpoint.rejections:
                raise _Refused(f"answer rejected {rejected} times: {why}")

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but not through a Ctrl-C: nothing is sent after one."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), max(0.0, seconds))
        if self.stop.is_set():
            raise _Refused("interrupted")

    async def _attempt(self, client: httpx.AsyncClient, request: Request, rejected: int) -> _Completion:
        """Send once. A request whose answer was rejected gets another seed, or it would return the same."""
        body = {"model": self.endpoint.model, "messages": list(request.messages), **self.endpoint.settings}
        if self.endpoint.seed is not None:
            body["seed"] = self.endpoint.seed + rejected
        try:
            async with asyncio.timeout(self.endpoint.timeout):
                response = await client.post(self.endpoint.url, json=body)
        except TimeoutError:
            raise _Trouble(f"no answer within {self.endpoint.timeout:g} s") from None
        except httpx.HTTPError as error:
            raise _Trouble(self._clean(f"{type(error).__name__}: {error}")) from None
        status = response.status_code
        if status == 200:
            return _parse(response)
        message = self._clean(f"HTTP {status}: {' '.join(response.text.split())}")
        if status in HOPELESS:
            raise GreamError(f"{self.endpoint.url} answers {message}: check base_url, model and api_key_env")
        if status in RETRIED or status >= 500:
            raise _Trouble(message, _retry_after(response.headers.get("retry-after")))
        raise _Refused(message)

    async def _back_off(self, troubles: int, wait: float | None) -> None:
        if wait is None:
            longest = min(self.endpoint.backoff_limit, self.endpoint.backoff * 2 ** (troubles - 1))
            await self._sleep(random.uniform(longest / 2, longest))
        elif wait > self.endpoint.retry_after_limit:
            raise _Refused(f"the endpoint asks to wait {wait:g} s, more than {self.endpoint.retry_after_limit:g}")
        else:
            # All workers wait, and do not all come back in the same instant.
            self.resume_at = max(self.resume_at, time.monotonic() + wait)
            await self._sleep(wait + random.uniform(0, min(1.0, self.endpoint.backoff)))

    def _book(self, known: str, request: Request, completion: _Completion, rejected: str | None) -> None:
        self.asked += 1
        self.prompt_tokens += int(completion.usage.get("prompt_tokens") or 0)
        self.answer_tokens += int(completion.usage.get("completion_tokens") or 0)
        line = {"hash": known, "key": request.key, "text": completion.text, "cut": completion.cut}
        self.ledger.append({**line, "rejected": rejected, "model": self.endpoint.model, "usage": completion.usage})

    def _count_failure(self, reason: str) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self.endpoint.give_up_after and not self.stop.is_set():
            raise GreamError(
                f"{self.endpoint.url}: {self.failed_in_a_row} requests failed one after another, the last with "
                f"{reason!r}: mend that and run again, what was answered is kept in {self.ledger.path}"
            )

    def _clean(self, message: str) -> str:
        """An endpoint's words in short and without the key, which some endpoints repeat."""
        return (message.replace(self.key, "***") if self.key else message)[:EXCERPT]


def _parse(response: httpx.Response) -> _Completion:
    try:
        body = response.json()
        choice = body["choices"][0]
        text, cut = choice["message"]["content"], choice.get("finish_reason") == "length"
        if not isinstance(text, str):
            raise TypeError("content is no text")
        usage = body.get("usage")
        return _Completion(text, cut, usage if isinstance(usage, dict) else {})
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _Trouble(f"HTTP 200 with rubbish ({type(error).__name__}: {error})"[:EXCERPT]) from None


def _retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as a number or as a date."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
