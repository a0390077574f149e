"""A running SGLang server over HTTP: requests to its ``/generate``, many at once, and streams."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from typing import Any, Protocol

from gream_ext.errors import GreamError
from gream_ext.inference.engines.names import Unavailable

AT_ONCE = 64
"""Requests under way at once; the server batches them."""


class Refusal(str):
    """Why a server refused one request; the others beside it are answered."""


class Transport(Protocol):
    """How requests reach SGLang. A request is ``input_ids`` and ``sampling_params`` of its ``/generate``."""

    def generate(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """The answer to each request, or a `Refusal`; `Unavailable` when SGLang cannot be reached."""
        ...

    def stream(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answer as it grows, ``output_ids`` from the first on; leaving early ends the request."""
        ...

    def close(self) -> None:
        """End what was started for it."""
        ...


class Server:
    """The server at ``url``; ``seconds`` without a byte of an answer are an error."""

    def __init__(self, url: str, seconds: float = 600.0):
        if not url.startswith(("http://", "https://")):
            raise GreamError(f"{url!r} is no address of an SGLang server: it begins with http:// or https://")
        self.url, self.seconds = url.rstrip("/"), seconds

    def generate(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        with ThreadPoolExecutor(min(AT_ONCE, max(1, len(requests)))) as pool:
            return list(pool.map(self._one, requests))

    def _one(self, request: dict[str, Any]) -> Any:
        try:
            with self._post(request) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return Refusal(said(error.read()))
        except (OSError, HTTPException, ValueError) as error:
            raise self._unreachable(error) from None

    def stream(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            with self._post({**request, "stream": True}) as answer:
                for line in answer:
                    if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                        continue
                    event = json.loads(line.removeprefix(b"data: "))
                    if "error" in event:
                        raise GreamError(said(event))
                    yield event
        except urllib.error.HTTPError as error:
            raise GreamError(said(error.read())) from None
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from None

    def close(self) -> None:
        """The server is not ours to end."""

    def _post(self, request: dict[str, Any]) -> HTTPResponse:
        asked = urllib.request.Request(
            f"{self.url}/generate", json.dumps(request).encode(), {"Content-Type": "application/json"}
        )
        answer: HTTPResponse = urllib.request.urlopen(asked, timeout=self.seconds)
        return answer

    def _unreachable(self, error: Exception) -> Unavailable:
        why = getattr(error, "reason", None) or error
        return Unavailable(f"no answer from the SGLang server at {self.url} ({why}): start it, see docs/sglang.md")


def said(answer: Any) -> str:
    """The message in an error of SGLang's."""
    try:
        found = json.loads(answer) if isinstance(answer, bytes | str) else answer
        error = found["error"] if "error" in found else found["detail"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)
