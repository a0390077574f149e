"""SGLang's offline engine, which runs in this process and in others that belong to it."""

import asyncio
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.sglang_request import TRIE_VARIABLE
from gream_ext.inference.engines.sglang_server import Refusal

CPU_ARGUMENTS = {"device": "cpu", "attention_backend": "torch_native", "max_total_tokens": 65_536}
"""What SGLang needs to be told on a machine without an accelerator."""


class Offline:
    """SGLang's offline engine: its processes belong to this one."""

    def __init__(self, model: Path, trie: ItemTrie, arguments: dict[str, Any]):
        if arguments.get("device") == "cpu":
            os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
            arguments = {**CPU_ARGUMENTS, **arguments}
        try:
            import sglang
        except ImportError as error:
            raise GreamError(
                f"the sglang engine needs SGLang in this environment ({error}): see docs/sglang.md"
            ) from None
        before = os.environ.get(TRIE_VARIABLE)
        with tempfile.TemporaryDirectory(prefix="gream-sglang-") as folder:
            path = Path(folder) / "trie.safetensors"
            trie.save(path)
            os.environ[TRIE_VARIABLE] = str(path)
            try:
                # Beam search needs pages of one token.
                self._engine: Any = sglang.Engine(model_path=str(model), **{"page_size": 1, **arguments})
            except SystemExit as error:
                raise GreamError(str(error)) from None
            finally:
                os.environ.pop(TRIE_VARIABLE)
                if before is not None:
                    os.environ[TRIE_VARIABLE] = before

    def generate(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        async def every() -> list[Any]:
            asked = [self._engine.async_generate(**request) for request in requests]
            return await asyncio.gather(*asked, return_exceptions=True)

        answers = self._engine.loop.run_until_complete(every())
        return [_refusal(answer) if isinstance(answer, BaseException) else answer for answer in answers]

    def stream(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        name = os.urandom(16).hex()

        async def leave() -> None:
            self._engine.tokenizer_manager.abort_request(name)

        try:
            yield from self._engine.generate(**request, rid=name, stream=True)
        except ValueError as error:
            raise GreamError(str(error)) from None
        finally:
            self._engine.loop.run_until_complete(leave())

    def close(self) -> None:
        self._engine.shutdown()


def _refusal(error: BaseException) -> Refusal:
    """What SGLang raises for one request (``ValueError``, or FastAPI's exception with a ``detail``); others go on."""
    if isinstance(error, ValueError):
        return Refusal(error)
    if hasattr(error, "detail"):
        return Refusal(error.detail)
    raise error
