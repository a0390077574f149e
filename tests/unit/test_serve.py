"""The HTTP service over a recommender that needs no model."""

import asyncio
import json
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi import FastAPI
from fastapi.testclient import TestClient

from gream_ext.errors import GreamError
from gream_ext.extras.serve.limits import Limits
from gream_ext.extras.serve.server import answered_hosts, serve
from gream_ext.extras.serve.service import Ask, Shop, create_app, question
from gream_ext.extras.serve.stages import ServeSettings
from gream_ext.inference.questions import Question
from gream_ext.workspace import Workspace
from tests.support.fake_recommender import TITLES, FakeRecommender


@pytest.fixture
def fake() -> FakeRecommender:
    return FakeRecommender()


@pytest.fixture
def client(fake: FakeRecommender) -> Iterator[TestClient]:
    shop = Shop(TITLES, ("u1", "u22"), {"u1": ("i0", "i1"), "u22": ("i2",) * 9}.get, "fake")
    app = create_app(fake, shop, Limits(max_history=5, max_n=4, max_body=2000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["item_id"] for item in response.json()["items"]]


def events(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in response.text.split("\n\n") if line]


def test_direct_mode(client: TestClient) -> None:
    answer = client.post("/recommend", json={"history": ["i0"], "n": 2}).json()
    assert answer == {
        "mode": "direct",
        "items": [
            {"item_id": "i0", "title": "Velta", "categories": ["Comedy"], "score": 0.5},
            {"item_id": "i1", "title": "The Brokai", "categories": ["Drama"], "score": 0.5},
        ],
    }
    assert ids(client.post("/recommend", json={"history": [], "n": 1})) == ["i0"], "a new user"
    assert ids(client.post("/recommend", json={"history": ["i0"], "exclude_history": True, "n": 2})) == ["i1", "i2"]
    shop = Shop(TITLES, repeats=False)
    assert question(Ask(history=["i0"]), shop, Limits()).exclude == {"i0"}, "nobody has an item twice"
    assert not question(Ask(history=["i0"], exclude_history=False), shop, Limits()).exclude
    assert ids(client.post("/recommend", json={"categories": ["drama"], "n": 4})) == ["i1", "i2"]
    assert ids(client.post("/recommend", json={"items": ["i3", "i1"], "exclude": ["i1"], "n": 4})) == ["i3"]
    assert ids(client.post("/recommend", json={"user_id": "u22", "exclude_history": True, "n": 4})) == [
        "i0", "i1", "i3", "i4",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"history": ["nope"]}, 422, "item 'nope' is not in the catalogue"),
        ({"history": ["i0"] * 6}, 422, "history is 6, at most 5"),
        ({"n": 5}, 422, "n is 5, at most 4"),
        ({"n": 0}, 422, "n: Input should be greater than or equal to 1"),
        ({"n": "many"}, 422, "n: Input should be a valid integer"),
        ({"n": True}, 422, "n: Input should be a valid integer"),
        ({"history": "i0"}, 422, "history: Input should be a valid list"),
        ({"history": [1]}, 422, "history.0: Input should be a valid string"),
        ({"histery": []}, 422, "histery: Extra inputs are not permitted"),
        ({"user_id": "u9"}, 404, "user 'u9' is not known here"),
        ({"user_id": "u1", "history": ["i0"]}, 422, "history or user_id, not both"),
        ({"categories": ["Western"]}, 422, "no item is left"),
        ({"exclude": list(TITLES.titles)}, 422, "no item is left"),
        ({"exclude": ["x" * 1990]}, 413, "larger than 2000 bytes"),
        ([], 422, "Input should be a valid dictionary"),
    ],
)
def test_bad_questions_get_one_line(client: TestClient, body: Any, status: int, said: str) -> None:
    for path in ("/recommend", "/reason"):
        response = client.post(path, json=body)
        assert response.status_code == status
        assert said in response.json()["error"]
        assert "Traceback" not in response.text


def test_of_a_long_history_the_prompt_gets_the_end_and_nothing_of_it_comes_back() -> None:
    shop = Shop(TITLES, ("u1",), {"u1": ("i0", "i1", "i2")}.get)
    asked = question(Ask(user_id="u1", exclude_history=True), shop, Limits(max_history=2))
    assert asked.history == ("i1", "i2") and asked.exclude == {"i0", "i1", "i2"}


def test_bodies_that_are_no_json(client: TestClient) -> None:
    for content in (b"", b"{", b"\xff\xfe", b"null", b"[" * 1500):
        response = client.post("/recommend", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code in (400, 422), content[:9]
        assert set(response.json()) == {"error"}
    assert client.get("/recommend").status_code == 405
    assert client.get("/nothing").json() == {"error": "Not Found"}
    for path in ("/static/../service.py", "/static/%2e%2e/service.py", "/static/nothing.js"):
        assert client.get(path).status_code == 404


def test_what_goes_wrong_inside_stays_inside(client: TestClient) -> None:
    response = client.post("/recommend", json={"history": ["i3", "i3"]})
    assert (response.status_code, response.json()) == (500, {"error": "internal error, see the service's log"})
    refused = client.post("/recommend", json={"history": ["i4", "i4"]})
    assert (refused.status_code, refused.json()) == (422, {"error": "this history cannot be answered"})
    last = events(client.post("/reason", json={"history": ["i3"]}))[-1]
    assert last == {"type": "error", "error": "internal error, see the service's log"}
    assert ids(client.post("/recommend", json={"n": 1})) == ["i0"], "and the service goes on"


def test_reasoning_streams(client: TestClient) -> None:
    response = client.post("/reason", json={"history": ["i0"]})
    assert response.headers["content-type"].startswith("text/event-stream")
    found = events(response)
    assert [event["type"] for event in found] == ["text", "item", "answer"]
    assert found[-1]["item"]["title"] == "Stamé Lu"
    assert 'gream_reasonings_total{ended="answer"} 1' in client.get("/metrics").text


def test_a_reasoning_that_takes_too_long_ends(fake: FakeRecommender) -> None:
    fake.pause, fake.tokens = 0.05, 10_000
    with TestClient(create_app(fake, Shop(TITLES), Limits(reason_seconds=0.2))) as client:
        found = events(client.post("/reason", json={"history": ["i0"]}))
    assert found[-1] == {"type": "error", "error": "the reasoning took too long"}


ASKED_AND_LEFT = [{"type": "http.request", "body": b"{}", "more_body": False}, {"type": "http.disconnect"}]


async def post(app: FastAPI, path: str, messages: Iterable[dict[str, Any]], reads: bool = True) -> None:
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
    scope["headers"] = [(b"content-type", b"application/json")]
    arriving = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(arriving, None) or await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        if not reads:
            await asyncio.Future()

    await app(scope, receive, send)  # type: ignore[arg-type]


def test_a_client_that_leaves_before_it_reads_a_byte(fake: FakeRecommender) -> None:
    fake.pause, fake.tokens = 0.01, 10_000
    begun, own = threading.Event(), fake.reason

    def reason(asked: Question) -> Any:
        begun.set()
        return own(asked)

    def messages() -> Iterator[dict[str, Any]]:
        asked, left = ASKED_AND_LEFT
        yield asked
        assert begun.wait(60)
        yield left

    fake.reason = reason  # type: ignore[method-assign]
    app = create_app(fake, Shop(TITLES), Limits())

    async def everybody() -> None:
        async with app.router.lifespan_context(app):
            await post(app, "/reason", messages(), reads=False)
            assert await asyncio.to_thread(fake.closed.wait, 10), "it is computed for nobody"

    asyncio.run(everybody())


def test_a_client_that_leaves_is_not_computed(fake: FakeRecommender) -> None:
    app = create_app(fake, Shop(TITLES), Limits())
    fake.go.clear()
    sent = ASKED_AND_LEFT

    async def ask(messages: list[dict[str, Any]]) -> None:
        await post(app, "/recommend", messages)

    async def everybody() -> None:
        async with app.router.lifespan_context(app):
            first = asyncio.ensure_future(ask(sent[:1]))
            await asyncio.to_thread(fake.begun.wait, 60)
            await asyncio.gather(*(ask(sent) for _ in range(5)))
            fake.go.set()
            await first
            await ask(sent[:1])

    asyncio.run(everybody())
    assert fake.batches == [1, 1]


def test_a_model_that_is_stuck_is_not_healthy(fake: FakeRecommender) -> None:
    fake.go.clear()
    with TestClient(create_app(fake, Shop(TITLES), Limits(direct_seconds=1.0))) as client:
        assert client.post("/recommend", json={}).status_code == 504
        while client.get("/health").json() != {"status": "the model is stuck"}:
            time.sleep(0.01)
        fake.go.set()
        while client.get("/health").status_code != 200:
            time.sleep(0.01)


def test_items_users_and_the_page(client: TestClient) -> None:
    assert ids(client.get("/items", params={"query": "VELTA"})) == ["i0", "i3"]
    assert ids(client.get("/items", params={"query": "stame"})) == ["i2"]
    assert client.get("/items", params={"query": "x" * 201}).status_code == 422
    assert client.get("/items").json()["error"] == "query: Field required"
    assert client.get("/users", params={"query": "u2"}).json() == {"users": ["u22"]}
    assert [item["title"] for item in client.get("/users/u1").json()["history"]] == ["Velta", "The Brokai"]
    assert client.get("/users/u9").status_code == 404
    about = client.get("/about").json()
    assert (about["items"], about["users"], about["categories"][:2]) == (5, 2, ["Comedy", "Drama"])
    page = client.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for name in ("static/app.js", "static/style.css"):
        assert name in page.text
        text = client.get(f"/{name}").text
        assert "http://" not in text
        assert "https://" not in text
        assert "innerHTML" not in text
    assert {"/recommend", "/reason", "/items", "/health", "/metrics"} <= client.get("/openapi.json").json()[
        "paths"
    ].keys()
    assert client.get("/docs").status_code == 404, "it would load scripts from elsewhere"


@pytest.mark.parametrize(
    ("options", "host", "status"),
    [
        ({}, "localhost:8000", 200),
        ({}, "127.0.0.1", 200),
        ({}, "[::1]:8000", 200),
        ({}, "evil.example", 421),
        ({}, "localhost.evil.example:8000", 421),
        ({}, "", 421),
        ({"allowed_hosts": ["Shop.example"]}, "shop.example:443", 200),
        ({"allowed_hosts": ["Shop.example"]}, "evil.example", 421),
        ({"host": "0.0.0.0"}, "evil.example", 200),
        ({"host": "0.0.0.0", "allowed_hosts": ["shop.example"]}, "evil.example", 421),
        ({"host": "0.0.0.0", "allowed_hosts": ["shop.example"]}, "shop.example", 200),
    ],
)
def test_a_page_of_elsewhere_gets_nothing(
    fake: FakeRecommender, options: dict[str, Any], host: str, status: int
) -> None:
    app = create_app(fake, Shop(TITLES), Limits(), answered_hosts(ServeSettings(**options)))
    response = TestClient(app).get("/about", headers={"Host": host})
    assert response.status_code == status
    if status == 421:
        assert "--allowed-hosts" in response.json()["error"]


def test_serving_on_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GreamError, match="--device zzz: torch finds no such device here, only cpu"):
        serve(Workspace(tmp_path), ServeSettings(device="zzz"))


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    client.post("/recommend", json={})
    client.post("/recommend", json={"n": 0})
    text = client.get("/metrics").text
    assert 'gream_requests_total{path="/recommend",status="200"} 1' in text
    assert 'gream_requests_total{path="/recommend",status="422"} 1' in text
    assert 'gream_request_seconds_count{path="/recommend"} 2' in text
    assert "gream_batch_size_sum 1" in text
    assert "gream_up 1" in text


def test_an_engine_that_is_gone_is_nobodys_mistake_and_may_come_back(client: TestClient, fake: FakeRecommender) -> None:
    fake.away = True
    for _ in range(2):
        answer = client.post("/recommend", json={"history": ["i0"]})
        assert answer.status_code == 503 and answer.json() == {"error": "the model's engine does not answer"}
        assert answer.headers["retry-after"] == "5"
    [event] = events(client.post("/reason", json={"history": ["i0"]}))
    assert event == {"type": "error", "error": "the model's engine does not answer"}, "not where it is"
    assert client.get("/health").status_code == 503
    fake.away = False
    assert client.get("/health").json() == {"status": "ok"}
    assert len(ids(client.post("/recommend", json={"history": ["i0"]}))) == 4


def test_requests_at_once_are_computed_together(client: TestClient, fake: FakeRecommender) -> None:
    fake.go.clear()
    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(client.post, "/recommend", json={"n": 1})]
        assert fake.begun.wait(60)
        asked += [pool.submit(client.post, "/recommend", json={"n": 1 + n % 4}) for n in range(1, 16)]
        while "gream_waiting 15.0\n" not in client.get("/metrics").text:
            time.sleep(0.01)
        fake.go.set()
    assert [len(ids(future.result())) for future in asked] == [1 + n % 4 for n in range(16)]
    assert fake.batches == [1, 15]
