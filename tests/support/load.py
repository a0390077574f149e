"""Clients of ``gream serve`` on plain sockets: cheap, so that the service is what is measured; and bad ones."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

Body = Mapping[str, Any]
Check = Callable[[Body, Any], str | None]
"""What is wrong with an answer to a body; None: nothing."""


@dataclass
class Seen:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    """Answers that are not what they should be, and connections that broke, by what was wrong."""

    def add(self, other: "Seen") -> None:
        self.seconds += other.seconds
        self.statuses += other.statuses
        self.wrong += other.wrong

    def quantile(self, share: float) -> float:
        """The time within which this share of the requests was answered."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Client:
    """One connection that is kept."""

    def __init__(self, port: int):
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def send(self, path: str, content: bytes, length: int | None = None) -> None:
        """Send a POST; with ``length`` the header says so many bytes instead of as many as there are."""
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
        lines.append(f"Content-Length: {len(content) if length is None else length}")
        await self.send_raw("\r\n".join([*lines, "", ""]).encode() + content)

    async def send_raw(self, content: bytes) -> None:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(content)
        await self.writer.drain()

    async def ended(self) -> bool:
        """The other side has closed the connection and said nothing."""
        assert self.reader is not None
        return await self.reader.read(1) == b""

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of an answer that says its length."""
        assert self.reader is not None
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split()[0])
        body = await self.reader.readexactly(length)
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


async def good(port: int, make: Callable[[Random], Body], check: Check, until: float, seed: int) -> Seen:
    """Ask for direct recommendations, one after the other, until the clock says so."""
    client, chance, seen = Client(port), Random(seed), Seen()
    while time.monotonic() < until:
        body = make(chance)
        begin = time.monotonic()
        try:
            await client.send("/recommend", json.dumps(body).encode())
            status, content = await client.answer()
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.wrong[type(error).__name__] += 1
            client.close()
            continue
        seen.seconds.append(time.monotonic() - begin)
        seen.statuses[status] += 1
        wrong = check(body, json.loads(content)) if status == 200 else f"status {status}: {content[:200]!r}"
        if wrong:
            seen.wrong[wrong] += 1
    client.close()
    return seen


async def reasoning(port: int, make: Callable[[Random], Body], until: float, seed: int) -> Seen:
    """Let the service reason, and read to the end."""
    chance, seen = Random(seed), Seen()
    while time.monotonic() < until:
        client, begin = Client(port), time.monotonic()
        body = {name: value for name, value in make(chance).items() if name != "n"}
        await client.send("/reason", json.dumps(body).encode())
        assert client.reader is not None
        events = ""
        while chunk := await client.reader.read(65536):
            events += chunk.decode("utf-8", errors="replace")
            if '"type": "answer"' in events or '"type": "error"' in events:
                break
        seen.seconds.append(time.monotonic() - begin)
        seen.statuses[int(events.split()[1]) if events else 0] += 1
        if '"type": "answer"' not in events:
            seen.wrong[f"a reasoning ended with {events[-200:]!r}"] += 1
        client.close()
    return seen


BAD: Mapping[str, tuple[bytes, int | None]] = {
    "oversized": (b'{"history": ["' + b"x" * 100_000 + b'"]}', 413),
    "broken JSON": (b'{"history": [', 422),
    "wrong types": (b'{"history": 7, "n": "many"}', 422),
    "negative n": (b'{"history": [], "n": -5}', 422),
    "huge n": (b'{"history": [], "n": 100000}', 422),
    "unknown item": (b'{"history": ["there is no such item"]}', 422),
    "unknown user": (b'{"user_id": "nobody"}', 404),
    "unknown field": (b'{"hystory": []}', 422),
    "not UTF-8": (b'{"history": ["\xff\xfe"]}', 400),
    "slow": (b'{"history": ', 408),
    "half a header": (b"POST /recommend HTTP/1.1\r\nHost: local", None),
    "leaves before the answer": (b'{"history": []}', None),
    "leaves a reasoning": (b'{"history": []}', None),
}
"""What a bad client sends, and the status that it must get; None: it does not wait for one."""


async def bad(port: int, kind: str, until: float) -> Seen:
    """Misbehave in one way again and again; what it should be told is counted, anything else is wrong."""
    content, wanted = BAD[kind]
    seen = Seen()
    while time.monotonic() < until:
        client = Client(port)
        try:
            if kind == "half a header":
                await client.send_raw(content)
                if not await client.ended():
                    seen.wrong[f"{kind}: an answer"] += 1
            else:
                path = "/reason" if "reasoning" in kind else "/recommend"
                await client.send(path, content, 5000 if kind == "slow" else None)
            if wanted is None:
                await asyncio.sleep(0.02)
                seen.statuses[0] += 1
            else:
                status, body = await client.answer()
                seen.statuses[status] += 1
                if status != wanted or b"Traceback" in body or b"error" not in body:
                    seen.wrong[f"{kind}: status {status}, {body[:200]!r}"] += 1
        except (OSError, asyncio.IncompleteReadError) as error:
            seen.wrong[f"{kind}: {type(error).__name__}"] += 1
        client.close()
        await asyncio.sleep(0.05)
    return seen
