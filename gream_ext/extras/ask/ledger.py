"""The ledger of an LLM batch: every answer that came back, one JSON line each, never lost and never paid twice.

Each line has ``hash`` (of `request_hash`), ``key`` (the caller's name for the request), ``text``, and ``rejected``
(why the answer was not good enough, or null).
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gream_ext.errors import GreamError
from gream_ext.extras.ask.endpoint import Request, Validate

Lines = dict[str, list[dict[str, Any]]]
"""The lines of each request hash, oldest first."""


class Ledger:
    """An append-only file of answers; `open_ledger` opens it."""

    def __init__(self, path: Path, file: BinaryIO, lines: Lines):
        self.path, self._file, self.lines = path, file, lines

    def append(self, line: Mapping[str, Any]) -> None:
        """Write one answer and wait until the disk has it."""
        self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines.setdefault(line["hash"], []).append(dict(line))


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger, held by one process at a time. A last line that a power cut tore is cut off.

    `GreamError`: another process holds it, or a line before the last one is damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GreamError(f"{path} is in use by another process: wait for it or stop it") from None
        file.seek(0)
        lines, length = parse_lines(file.read(), path)
        file.truncate(length)
        yield Ledger(path, file, by_request(lines))


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger that nobody has to hold; empty when there is no such file."""
    return parse_lines(path.read_bytes(), path)[0] if path.exists() else []


def by_request(lines: Iterable[dict[str, Any]]) -> Lines:
    found: Lines = {}
    for line in lines:
        found.setdefault(line["hash"], []).append(line)
    return found


def parse_lines(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The good lines of a ledger and how many bytes they take: what follows is a torn last line."""
    lines, length = [], 0
    rows = content.split(b"\n")
    for number, row in enumerate(rows[:-1], start=1):
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


def accepted(lines: Lines, known: str, request: Request, validate: Validate) -> str | None:
    """The newest answer to the request of hash ``known`` that is good enough by today's rule."""
    for line in reversed(lines.get(known, ())):
        if not line.get("cut") and validate(request, line["text"]) is None:
            return str(line["text"])
    return None
