"""What the service sends: items, events of a reasoning, and errors, all as JSON."""

import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gream_ext.errors import GreamError
from gream_ext.extras.serve.model_thread import Busy
from gream_ext.inference.engines.names import Unavailable
from gream_ext.inference.questions import Answer, Item, Piece
from gream_ext.inference.titles import Titles

AWAY = "the model's engine does not answer"
"""What callers are told; where the engine is stands in the log alone."""
INTERNAL = "internal error, see the service's log"


def item_json(titles: Titles, item_id: str) -> dict[str, Any]:
    categories = list(titles.categories.get(item_id, ()))
    return {"item_id": item_id, "title": titles.title(item_id), "categories": categories}


def event(piece: Piece | Exception, titles: Titles) -> str:
    """A piece of a reasoning as a server-sent event."""
    if isinstance(piece, Answer):
        item = item_json(titles, piece.item.item_id) if piece.item else None
        said = {"type": "answer", "item": item, "status": piece.status, "tokens": piece.tokens}
    elif isinstance(piece, Exception):
        plain = str(piece) if isinstance(piece, GreamError | TimeoutError | Busy) else INTERNAL
        said = {"type": "error", "error": AWAY if isinstance(piece, Unavailable) else plain}
    elif isinstance(piece, Item):
        said = {"type": "item", "item_id": piece.item_id, "title": piece.title}
    else:
        said = {"type": "text", "text": piece.text}
    return f"data: {json.dumps(said, ensure_ascii=False)}\n\n"


def add_errors(app: FastAPI) -> None:
    """Every error is one line of JSON; what went wrong inside stands in the log alone."""

    def say(status: int, message: str, **headers: str) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers=headers)

    def invalid(error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))
        return say(422, f"{place}: {first['msg']}" if place else str(first["msg"]))

    def away(error: Unavailable) -> JSONResponse:
        logging.getLogger("uvicorn.error").warning("%s", error)
        return say(503, AWAY, **{"Retry-After": "5"})

    def handle(kind: type[Exception], reply: Callable[[Any], JSONResponse]) -> None:
        async def handler(request: Request, error: Exception) -> JSONResponse:
            return reply(error)

        app.add_exception_handler(kind, handler)

    handle(RequestValidationError, invalid)
    handle(HTTPException, lambda error: say(error.status_code, str(error.detail), **(error.headers or {})))
    handle(GreamError, lambda error: say(422, str(error)))
    handle(Unavailable, away)
    handle(Busy, lambda error: say(503, str(error), **{"Retry-After": "1"}))
    handle(TimeoutError, lambda error: say(504, "no answer in time"))
    handle(Exception, lambda error: say(500, INTERNAL))
