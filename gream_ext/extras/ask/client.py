"""The asynchronous inside of `gream_ext.extras.ask.batch.ask`: openai's client sends and retries, we keep books."""

import asyncio
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Coroutine, Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Outcome, Request, Validate, api_key, by_hash, request_fields
from gream_ext.extras.ask.ledger import Ledger, accepted
from gream_ext.progress import progress

HOPELESS = (401, 403, 404)
"""Errors that every other request of the batch would meet as well."""
EXCERPT = 160
"""Characters of an endpoint's error body that are repeated to the user."""
GIVE_UP_AFTER = 20
"""So many requests failing one after another, none succeeding between, end the batch."""


class _Failed(Exception):
    """This request has no answer; the message says why."""


class Client:
    """Runs one batch: as many requests at once as the settings allow, every answer into the ledger."""

    def __init__(self, settings: AskSettings, ledger: Ledger, validate: Validate):
        self.settings, self.ledger, self.validate = settings, ledger, validate
        self.key = api_key(settings)
        self.paid: Counter[str] = Counter()
        self.failed_in_a_row, self.stopped = 0, False

    async def run(self, requests: Sequence[Request], description: str) -> Outcome:
        same = by_hash(self.settings, requests)
        found = {known: accepted(self.ledger.lines, known, one[0], self.validate) for known, one in same.items()}
        texts = {known: text for known, text in found.items() if text is not None}
        reasons: dict[str, str] = {}
        waiting = deque(known for known in same if known not in texts)
        with progress(total=len(same), initial=len(texts), desc=description, unit=" requests") as bar:

            async def work(client: openai.AsyncOpenAI) -> None:
                while waiting and not self.stopped:
                    known = waiting.popleft()
                    try:
                        texts[known] = await self._answer(client, known, same[known][0])
                        self.failed_in_a_row = 0
                    except _Failed as error:
                        reasons[known] = str(error)
                        self._count_failure(str(error))
                    bar.update()

            async with self._client() as client:
                await self._until_done([work(client) for _ in range(min(self.settings.concurrency, len(waiting)))])
        if self.stopped:
            raise KeyboardInterrupt
        answers, failures = (
            {request.key: said[known] for known, group in same.items() if known in said for request in group}
            for said in (texts, reasons)
        )
        return Outcome(answers, failures, self.paid["asked"], self.paid["prompt_tokens"], self.paid["answer_tokens"])

    def _client(self) -> openai.AsyncOpenAI:
        """openai's client, with nothing of the environment variables that are meant for OpenAI."""
        settings = self.settings
        client = openai.AsyncOpenAI(
            api_key=self.key, base_url=settings.base_url, timeout=settings.timeout, max_retries=settings.attempts - 1
        )
        client.organization = client.project = None
        return client

    async def _until_done(self, work: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run everything; Ctrl-C lets the requests under way come back, a second one does not."""
        loop, tasks = asyncio.get_running_loop(), [asyncio.create_task(one) for one in work]
        in_main = threading.current_thread() is threading.main_thread()  # only it gets signals

        def interrupt() -> None:
            if self.stopped:
                for task in tasks:
                    task.cancel()
            else:
                self.stopped = True
                print("\ninterrupted: waiting for the requests under way, Ctrl-C again to drop them", file=sys.stderr)

        if in_main:
            loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            await asyncio.gather(*tasks)
        except asyncio.CancelledError:
            if not self.stopped:
                raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if in_main:
                loop.remove_signal_handler(signal.SIGINT)

    async def _answer(self, client: openai.AsyncOpenAI, known: str, request: Request) -> str:
        """One good answer, after as many attempts and rejections as are allowed."""
        rubbish = rejected = 0
        while True:
            completion = await self._send(client, request, rejected)
            try:
                choice = completion.choices[0]
                if choice.message.content is None:
                    raise TypeError("it has no content")
                text, cut = str(choice.message.content), choice.finish_reason == "length"
            except (AttributeError, IndexError, TypeError, KeyError) as error:
                rubbish += 1
                if rubbish >= self.settings.attempts:
                    raise _Failed(f"HTTP 200 with rubbish ({error}), {rubbish} times"[:EXCERPT]) from None
                continue
            why = f"cut at max_tokens={self.settings.max_tokens}" if cut else self.validate(request, text)
            usage = completion.usage.model_dump(exclude_none=True) if completion.usage else {}
            used = {name: int(usage.get(f"{key}_tokens") or 0) for name, key in
                    (("prompt_tokens", "prompt"), ("answer_tokens", "completion"))}  # fmt: skip
            self.paid.update({"asked": 1, **used})
            line = {"hash": known, "key": request.key, "text": text, "cut": cut, "rejected": why}
            self.ledger.append({**line, "model": self.settings.model, "usage": usage})
            if why is None:
                return text
            rejected += 1
            if rejected >= self.settings.rejections or self.stopped:
                raise _Failed(f"answer rejected {rejected} times: {why}")

    async def _send(self, client: openai.AsyncOpenAI, request: Request, rejected: int) -> ChatCompletion:
        """Ask once more; after a rejected answer with another seed, or the same would come back."""
        fields = request_fields(self.settings)
        if isinstance(fields.get("seed"), int):
            fields["seed"] += rejected
        try:
            messages: Any = list(request.messages)
            return await client.chat.completions.create(model=self.settings.model, messages=messages, extra_body=fields)
        except openai.APIStatusError as error:
            message = self._clean(f"HTTP {error.status_code}: {' '.join(error.response.text.split())}")
            if error.status_code in HOPELESS:
                url = f"{self.settings.base_url.rstrip('/')}/chat/completions"
                raise GreamError(f"{url} answers {message}: check base_url, model and api_key_env") from None
            raise _Failed(message) from None
        except openai.APITimeoutError:
            raise _Failed(f"no answer within {self.settings.timeout:g} s, {self.settings.attempts} times") from None
        except openai.APIError as error:
            cause = error.__cause__ or error
            raise _Failed(self._clean(f"{type(cause).__name__}: {cause}")) from None

    def _count_failure(self, reason: str) -> None:
        self.failed_in_a_row += 1
        if self.failed_in_a_row >= GIVE_UP_AFTER and not self.stopped:
            raise GreamError(
                f"{self.settings.base_url}: {self.failed_in_a_row} requests failed one after another, the last with "
                f"{reason!r}: mend that and run again, what was answered is kept in {self.ledger.path}"
            )

    def _clean(self, message: str) -> str:
        """An endpoint's words in short and without the key, which some endpoints repeat."""
        return (message.replace(self.key, "***") if self.key else message)[:EXCERPT]
