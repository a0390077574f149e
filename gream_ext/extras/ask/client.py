"""The asynchronous inside of `gream_ext.extras.ask.ask`: openai's client sends and retries, we keep books."""

import asyncio
import signal
import sys
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Endpoint, Request
from gream_ext.extras.ask.ledger import Ledger
from gream_ext.extras.ask.outcome import Outcome, Validate, accepted, without_equal
from gream_ext.progress import progress

HOPELESS = (401, 403, 404)
"""Errors that every other request of the batch would meet as well."""
EXCERPT = 160
"""Characters of an endpoint's error body that are repeated to the user."""


class _Failed(Exception):
    """This request has no answer; the message says why."""


class Client:
    """Runs one batch: as many requests at once as the endpoint allows, every answer into the ledger."""

    def __init__(self, endpoint: Endpoint, ledger: Ledger, validate: Validate):
        self.endpoint, self.ledger, self.validate = endpoint, ledger, validate
        self.key = endpoint.api_key()
        self.asked = self.prompt_tokens = self.answer_tokens = self.failed_in_a_row = 0
        self.stop = asyncio.Event()

    async def run(self, requests: Sequence[Request], description: str) -> Outcome:
        """Answer ``requests``; equal ones are sent once."""
        same = without_equal(requests, self.endpoint)
        found = {known: accepted(self.ledger.answers(known), group[0], self.validate) for known, group in same.items()}
        texts = {known: text for known, text in found.items() if text is not None}
        reasons: dict[str, str] = {}
        waiting = deque(known for known in same if known not in texts)
        with progress(total=len(same), initial=len(texts), desc=description, unit=" requests") as bar:

            async def work(client: openai.AsyncOpenAI) -> None:
                while waiting and not self.stop.is_set():
                    known = waiting.popleft()
                    try:
                        texts[known] = await self._answer(client, known, same[known][0])
                        self.failed_in_a_row = 0
                    except _Failed as error:
                        reasons[known] = str(error)
                        self._count_failure(str(error))
                    bar.update()

            async with self._client() as client:
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

    def _client(self) -> openai.AsyncOpenAI:
        """openai's client for this endpoint, with nothing of the environment variables that are meant for OpenAI."""
        client = openai.AsyncOpenAI(
            api_key=self.key,
            base_url=self.endpoint.base_url,
            timeout=self.endpoint.timeout,
            max_retries=self.endpoint.attempts - 1,
        )
        client.organization = client.project = None
        return client

    async def _until_done(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run everything; Ctrl-C lets the requests under way come back, a second one does not."""
        loop = asyncio.get_running_loop()
        tasks = [asyncio.create_task(one) for one in work]

        def interrupt() -> None:
            if self.stop.is_set():
                for task in tasks:
                    task.cancel()
            else:
                self.stop.set()
                print("\ninterrupted: waiting for the requests under way, Ctrl-C again to drop them", file=sys.stderr)

        with suppress(RuntimeError, ValueError, NotImplementedError):  # not in the main thread
            loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self.stop.is_set():
                raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with suppress(RuntimeError, ValueError, NotImplementedError):
                loop.remove_signal_handler(signal.SIGINT)

    async def _answer(self, client: openai.AsyncOpenAI, known: str, request: Request) -> str:
        """One good answer, after as many attempts and rejections as are allowed."""
        rubbish = rejected = 0
        while True:
            completion = await self._send(client, request, rejected)
            try:
                choice = completion.choices[0]
                text, cut = str(choice.message.content or ""), choice.finish_reason == "length"
                if choice.message.content is None:
                    raise TypeError("it has no content")
            except (AttributeError, IndexError, TypeError, KeyError) as error:
                rubbish += 1
                if rubbish >= self.endpoint.attempts:
                    raise _Failed(f"HTTP 200 with rubbish ({error}), {rubbish} times"[:EXCERPT]) from None
                continue
            why = f"cut at max_tokens={self.endpoint.max_tokens}" if cut else self.validate(request, text)
            self._book(known, request, text, cut, why, completion)
            if why is None:
                return text
            rejected += 1
            if rejected >= self.endpoint.rejections or self.stop.is_set():
                raise _Failed(f"answer rejected {rejected} times: {why}")

    async def _send(self, client: openai.AsyncOpenAI, request: Request, rejected: int) -> ChatCompletion:
        """Ask, again where that may help. After a rejected answer with another seed, or the same would come back."""
        body = dict(self.endpoint.settings)
        if self.endpoint.seed is not None:
            body["seed"] = self.endpoint.seed + rejected
        try:
            return await client.chat.completions.create(
                model=self.endpoint.model,
                messages=list(request.messages),  # type: ignore[arg-type]
                extra_body=body,
            )
        except openai.APIStatusError as error:
            message = self._clean(f"HTTP {error.status_code}: {' '.join(error.response.text.split())}")
            if error.status_code in HOPELESS:
                url = f"{self.endpoint.base_url.rstrip('/')}/chat/completions"
                raise GreamError(f"{url} answers {message}: check base_url, model and api_key_env") from None
            raise _Failed(message) from None
        except openai.APITimeoutError:
            raise _Failed(f"no answer within {self.endpoint.timeout:g} s, {self.endpoint.attempts} times") from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise _Failed(self._clean(f"{type(cause).__name__}: {cause}")) from None

    def _book(
        self, known: str, request: Request, text: str, cut: bool, rejected: str | None, completion: ChatCompletion
    ) -> None:
        usage = completion.usage.model_dump(exclude_none=True) if completion.usage else {}
        self.asked += 1
        self.prompt_tokens += int(usage.get("prompt_tokens") or 0)
        self.answer_tokens += int(usage.get("completion_tokens") or 0)
        line = {"hash": known, "key": request.key, "text": text, "cut": cut}
        self.ledger.append({**line, "rejected": rejected, "model": self.endpoint.model, "usage": usage})

    def _count_failure(self, reason: str) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= self.endpoint.give_up_after and not self.stop.is_set():
            raise GreamError(
                f"{self.endpoint.base_url}: {self.failed_in_a_row} requests failed one after another, the last with "
                f"{reason!r}: mend that and run again, what was answered is kept in {self.ledger.path}"
            )

    def _clean(self, message: str) -> str:
        """An endpoint's words in short and without the key, which some endpoints repeat."""
        return (message.replace(self.key, "***") if self.key else message)[:EXCERPT]
