"""The HTTP service as an ASGI application; `serve` runs it. Imports FastAPI, no model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from gream_ext import __version__
from gream_ext.extras.serve.guard import Guard
from gream_ext.extras.serve.limits import Limits
from gream_ext.extras.serve.measures import Measures
from gream_ext.extras.serve.model_thread import ModelThread, Stream
from gream_ext.extras.serve.replies import AWAY, add_errors, event, item_json
from gream_ext.inference.questions import Answer, Piece, Question, Recommender
from gream_ext.inference.titles import Titles

Histories = Callable[[str], Sequence[str] | None]
"""A user's items, oldest first; None when nobody knows the user."""


class Ask(BaseModel):
    """A question in JSON: a history or a known user."""

    model_config = ConfigDict(extra="forbid", strict=True)
    history: list[str] = Field(default_factory=list, description="item ids, oldest first; empty: a new user")
    user_id: str | None = Field(None, description="a user of the workspace, in place of a history")
    n: int | None = Field(None, ge=1, description="how many items (direct mode); 10 where nothing is said")
    exclude_history: bool | None = Field(
        None, description="leave out what is in the history; the default if nobody in the data has an item twice"
    )
    exclude: list[str] = Field(default_factory=list, description="items that may not be recommended")
    categories: list[str] | None = Field(None, description="only items of one of these categories")
    items: list[str] | None = Field(None, description="only these items")
    seed: int | None = Field(None, ge=0, lt=2**63, description="of the reasoning; without one each call differs")


@dataclass(frozen=True)
class Shop:
    """What the service knows beside the model."""

    titles: Titles
    users: Sequence[str] = ()
    history_of: Histories = lambda user: None
    model: str = ""
    repeats: bool = True
    """Whether anybody in the data has an item twice."""


def question(ask: Ask, shop: Shop, limits: Limits) -> Question:
    """Check what was asked; an `HTTPException` says in one line what is wrong."""
    seen = history = ask.history
    if ask.user_id is not None:
        if history:
            raise HTTPException(422, "give history or user_id, not both")
        known = shop.history_of(ask.user_id)
        if known is None:
            raise HTTPException(404, f"user {ask.user_id[:100]!r} is not known here")
        seen = list(known)
        history = seen[-limits.max_history :]
    n = ask.n or min(10, limits.max_n)
    for name, number, most in (("history", len(history), limits.max_history), ("n", n, limits.max_n)):
        if number > most:
            raise HTTPException(422, f"{name} is {number}, at most {most} are allowed")
    for item in (*seen, *ask.exclude, *(ask.items or ())):
        if item not in shop.titles:
            raise HTTPException(422, f"item {item[:100]!r} is not in the catalogue")
    among = None if ask.items is None else frozenset(ask.items)
    if ask.categories is not None:
        within = frozenset(shop.titles.in_categories(ask.categories))
        among = within if among is None else among & within
    leave_out = not shop.repeats if ask.exclude_history is None else ask.exclude_history
    exclude = frozenset(ask.exclude) | (frozenset(seen) if leave_out else frozenset())
    if not among - exclude if among is not None else len(exclude) >= len(shop.titles):
        raise HTTPException(422, "no item is left that may be recommended")
    return Question(tuple(history), n, exclude, among, ask.seed)


class Events(StreamingResponse):
    """A reasoning as it is sent; it ends with the connection, also with one that took no byte of it."""

    def __init__(self, stream: Stream, events: AsyncIterator[str]):
        super().__init__(events, media_type="text/event-stream")
        self.stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.stream.cancelled = True


async def disconnected(request: Request) -> None:
    """Returns when the client of a request whose body has been read is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def create_app(recommender: Recommender, shop: Shop, limits: Limits, hosts: frozenset[str] | None = None) -> FastAPI:
    """The application; its lifespan starts and stops the thread that uses the model.

    ``hosts`` are the names that requests may call it by, in small letters; None: any.
    """
    measures = Measures()
    model = ModelThread(recommender, measures, limits.max_batch, limits.max_streams, limits.max_waiting)
    measures.waiting.set_function(lambda: model.waiting)
    measures.up.set_function(lambda: model.alive)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        model.start()
        yield
        await asyncio.to_thread(model.stop)

    # The pages of /docs would load scripts from elsewhere.
    app = FastAPI(title="GREAM", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, measures=measures, max_body=limits.max_body, seconds=limits.body_seconds, hosts=hosts)
    static = str(files("gream_ext.extras.serve").joinpath("static"))
    app.mount("/static", StaticFiles(directory=static), name="static")
    add_errors(app)

    async def checked(ask: Ask) -> Question:
        """The question; of a large catalogue a filter is many items, which keep nobody else waiting."""
        if ask.categories is None and ask.items is None:
            return question(ask, shop, limits)
        return await asyncio.to_thread(question, ask, shop, limits)

    @app.post("/recommend", summary="Direct mode: the next items at once")
    async def recommend(ask: Ask, request: Request) -> dict[str, Any]:
        asked = await checked(ask)
        answer: asyncio.Future[Any] = asyncio.wrap_future(model.ask(asked, limits.direct_seconds))
        gone: asyncio.Future[Any] = asyncio.ensure_future(disconnected(request))
        try:
            async with asyncio.timeout(limits.direct_seconds):
                await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise HTTPException(499, "the client has gone")
            found = answer.result()
        finally:
            gone.cancel()
            answer.cancel()
        items = [{**item_json(shop.titles, one.item_id), "score": round(one.score, 6)} for one in found]
        return {"mode": "direct", "items": items}

    @app.post("/reason", summary="Reasoning mode: server-sent events, each a JSON object with a type")
    async def reason(ask: Ask) -> StreamingResponse:
        pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def emit(piece: Piece | Exception) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        stream = model.reason(await checked(ask), limits.reason_seconds, emit)

        async def events() -> AsyncIterator[str]:
            while True:
                piece = await pieces.get()
                yield event(piece, shop.titles)
                if isinstance(piece, Answer | Exception):
                    return

        return Events(stream, events())

    @app.get("/items", summary="Items whose titles hold every word of the query")
    async def items(
        query: Annotated[str, Query(max_length=200)], limit: Annotated[int, Query(ge=1, le=100)] = 10
    ) -> dict[str, Any]:
        found = await asyncio.to_thread(shop.titles.search, query, limit)
        return {"items": [item_json(shop.titles, item) for item in found]}

    @app.get("/users", summary="Known users whose id begins with the query")
    async def users(
        query: Annotated[str, Query(max_length=200)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> dict[str, Any]:
        return {"users": [user for user in shop.users if user.startswith(query)][:limit]}

    @app.get("/users/{user_id}", summary="A known user's history, oldest first")
    async def user(user_id: str) -> dict[str, Any]:
        known = shop.history_of(user_id)
        if known is None:
            raise HTTPException(404, f"user {user_id[:100]!r} is not known here")
        return {"user_id": user_id, "history": [item_json(shop.titles, item) for item in known]}

    @app.get("/about", summary="What a page needs to know")
    async def about() -> dict[str, Any]:
        return {
            "model": shop.model,
            "items": len(shop.titles),
            "users": len(shop.users),
            "categories": shop.titles.category_names[:60],
            "max_history": limits.max_history,
            "max_n": limits.max_n,
            "repeats": shop.repeats,
        }

    @app.get("/health", summary="200 while the model answers")
    async def health() -> JSONResponse:
        if model.away:  # ask again, so that nobody has to find out that the engine is back
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5.0):
                    await asyncio.wrap_future(model.ask(Question((), 1), 5.0))
        stuck = "the model is stuck" if model.busy_seconds > limits.direct_seconds else "ok"
        told = "the model has stopped" if not model.alive else AWAY if model.away else stuck
        return JSONResponse({"status": told}, 200 if told == "ok" else 503)

    @app.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> str:
        return measures.text()

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(f"{static}/index.html")

    return app
