"""``gream serve`` under load: ``pytest tests/benchmarks -k serve -s``; docs/serving.md has what it printed.

One client, then 64 for a minute, then 64 with bad ones among them. The service is a process of its own; on a machine
with few cores the clients take time from it. ``GREAM_LOAD_WORKSPACE`` names a finished workspace (without it a model
that knows nothing is made), ``GREAM_LOAD_SECONDS`` the length of the middle part.
"""

import asyncio
import json
import os
import time
import urllib.request
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gream_ext.inference.source import workspace_source
from gream_ext.workspace import Workspace
from tests.integration.test_serve import serving
from tests.support.load import BAD, Body, Seen, bad, good, reasoning
from tests.support.tiny_workspace import make_model_workspace

pytest.importorskip("uvicorn")

SECONDS = float(os.environ.get("GREAM_LOAD_SECONDS", "60"))
CLIENTS = 64


@dataclass(frozen=True)
class Service:
    port: int
    items: Sequence[str]
    categories: dict[str, frozenset[str]]

    def body(self, chance: Random) -> Body:
        """A request as a shop sends it: a history, and now and then a filter."""
        asked: dict[str, Any] = {
            "history": chance.choices(self.items, k=chance.randint(0, 30)),
            "n": chance.randint(1, 20),
        }
        if chance.random() < 0.2:
            asked["categories"] = [chance.choice(list(self.categories))]
        if chance.random() < 0.2:
            asked["exclude_history"] = True
        if chance.random() < 0.1:
            asked["items"] = chance.sample(self.items, 30)
            asked.pop("categories", None)
            asked.pop("exclude_history", None)
        return asked

    def check(self, body: Body, answer: Any) -> str | None:
        """Real items, none twice, none that was excluded, as many as there are."""
        named = [item["item_id"] for item in answer["items"]]
        allowed = set(body.get("items", self.items))
        for category in body.get("categories", []):
            allowed &= self.categories[category]
        if body.get("exclude_history"):
            allowed -= set(body["history"])
        if not set(named) <= allowed:
            return "an item that is not there or may not be recommended"
        if len(set(named)) != len(named):
            return "an item twice"
        scores = [item["score"] for item in answer["items"]]
        if scores != sorted(scores, reverse=True):
            return "scores out of order"
        return None if len(named) == min(body["n"], len(allowed)) else f"{len(named)} items of {body['n']}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    named = os.environ.get("GREAM_LOAD_WORKSPACE")
    workspace = (
        Workspace(Path(named)) if named else make_model_workspace(tmp_path_factory.mktemp("load"), users=100, items=400)
    )
    source = workspace_source(workspace)
    categories = {name: frozenset(source.titles.in_categories([name])) for name in source.titles.category_names[:20]}
    large = {name: some for name, some in categories.items() if len(some) > 30}
    with serving("--workspace", str(workspace.root), "--body-seconds", "2", "--max-tokens", "300") as (address, _):
        yield Service(int(address.rsplit(":", 1)[1]), list(source.index.item_ids), large or categories)


def crowd(*clients: Coroutine[Any, Any, Seen]) -> list[Seen]:
    async def together() -> list[Seen]:
        return list(await asyncio.gather(*clients))

    return asyncio.run(together())


def pooled(some: Sequence[Seen]) -> Seen:
    whole = Seen()
    for one in some:
        whole.add(one)
    return whole


def told(name: str, seen: Seen, seconds: float) -> None:
    times = f"p50 {1000 * seen.quantile(0.5):.0f} ms, p99 {1000 * seen.quantile(0.99):.0f} ms"
    print(f"\n{name}: {len(seen.seconds)} answers, {len(seen.seconds) / seconds:.1f} a second, {times}", end="")


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def test_serve_under_64_clients(service: Service) -> None:
    crowd(*(good(service.port, service.body, service.check, time.monotonic() + 2, seed) for seed in range(4)))  # warm
    alone_for = max(5.0, SECONDS / 4)
    alone = pooled(crowd(good(service.port, service.body, service.check, time.monotonic() + alone_for, 1)))
    told("one client at a time", alone, alone_for)

    batches = metric(service.port, "gream_batch_size_count")
    begin = time.monotonic()
    many = pooled(
        crowd(*(good(service.port, service.body, service.check, begin + SECONDS, 100 + n) for n in range(CLIENTS)))
    )
    told(f"{CLIENTS} clients", many, time.monotonic() - begin)
    size = len(many.seconds) / (metric(service.port, "gream_batch_size_count") - batches)
    print(f", {size:.1f} requests computed together")
    for seen in (alone, many):
        assert set(seen.statuses) == {200} and not seen.wrong, (seen.statuses, seen.wrong)
    assert len(many.seconds) >= CLIENTS


def test_serve_good_requests_among_bad_ones(service: Service) -> None:
    seconds = SECONDS / 2
    begin = time.monotonic()
    until = begin + seconds
    found = crowd(
        *(good(service.port, service.body, service.check, until, 200 + n) for n in range(CLIENTS)),
        *(reasoning(service.port, service.body, until, 300 + n) for n in range(2)),
        *(bad(service.port, kind, until) for kind in BAD),
    )
    well, reasoned, badly = pooled(found[:CLIENTS]), pooled(found[CLIENTS : CLIENTS + 2]), found[CLIENTS + 2 :]
    told(f"{CLIENTS} clients beside {len(BAD)} bad ones and 2 that reason", well, time.monotonic() - begin)
    told("  the 2 that reason", reasoned, time.monotonic() - begin)
    for kind, seen in zip(BAD, badly, strict=True):
        print(f"\n  {kind}: {json.dumps(dict(seen.statuses))}", end="")
        assert not seen.wrong, seen.wrong
        assert seen.statuses
    print()
    for seen in (well, reasoned):
        assert set(seen.statuses) == {200} and not seen.wrong, (seen.statuses, seen.wrong)
    assert len(well.seconds) >= CLIENTS
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/health", timeout=60) as answer:
        assert answer.status == 200
