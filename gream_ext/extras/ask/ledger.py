"""The ledger of an LLM batch: every answer that came back, one JSON line each, never lost and never paid twice."""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from gream_ext.errors import GreamError


def request_hash(model: str, messages: Sequence[Mapping[str, str]], settings: Mapping[str, Any]) -> str:
    """What an answer depends on, as 32 hexadecimal digits; the endpoint's address is no part of it.

    >>> request_hash("m", [{"role": "user", "content": "hello"}], {"max_tokens": 5})
    'b4e109a493cb2c12fdf8fa5ce55f218c'
    """
    content = json.dumps([model, [dict(message) for message in messages], dict(settings)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:32]


class Ledger:
    """An append-only file of answers, held by one process at a time.

    Use it as a context manager. A last line that was torn by kill -9 or a full disk is cut off
    when the file is opened; a damaged line before it is a `GreamError`. Every line carries
    ``hash`` (of `request_hash`), ``key`` (the caller's name for the request), ``text``, and
    ``rejected`` (why the answer was not good enough, or null).
    """

    def __init__(self, path: Path):
        self.path = path
        self._file: BinaryIO | None = None
        self._answers: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> "Ledger":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            file = opened.enter_context(self.path.open("a+b"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise GreamError(f"{self.path} is in use by another process: wait for it or stop it") from None
            file.seek(0)
            content = file.read()
            lines, length = parse_lines(content, self.path)
            if length < len(content):
                file.truncate(length)
            self._file = file
            self._closing = opened.pop_all()
        for line in lines:
            self._answers.setdefault(line["hash"], []).append(line)
        return self

    def __exit__(self, *error: object) -> None:
        self._closing.close()
        self._file = None

    def answers(self, request: str) -> Sequence[Mapping[str, Any]]:
        """The lines of a request hash, oldest first."""
        return self._answers.get(request, ())

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one answer and wait until the disk has it."""
        if self._file is None:
            raise ValueError("the ledger is not open")
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._answers.setdefault(line["hash"], []).append(dict(line))


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger that nobody has to hold; empty when there is no such file."""
    return parse_lines(path.read_bytes(), path)[0] if path.exists() else []


def parse_lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The good lines of a ledger and how many bytes they take: what follows is a torn last line."""
    lines, length = [], 0
    rows = content.split(b"\n")
    for number, row in enumerate(rows, start=1):
        if number == len(rows):  # after the last line break: nothing, or a line that was torn
            break
        try:
            line = json.loads(row)
            if not isinstance(line, dict) or not {"hash", "key", "text"} <= line.keys():
                raise ValueError("not a line of a ledger")
        except ValueError as error:
            if not b"".join(rows[number:]):
                break
            raise GreamError(f"{path}, line {number} is damaged ({error}): remove that line and run again") from None
        lines.append(line)
        length += len(row) + 1
    return lines, length
