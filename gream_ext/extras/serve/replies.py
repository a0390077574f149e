"""What the service sends: items, events of a reasoning, and errors, all as JSON."""

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gream_ext.errors import GreamError, ModelFault
from gream_ext.extras.serve.model_thread import Busy
from gream_ext.inference.engines.names import Unavailable
from gream_ext.inference.questions import Answer, Item, Piece, Recommendation
from gream_ext.inference.titles import Titles

AWAY = "the model's engine does not answer"
"""What callers are told; where the engine is stands in the log alone."""
INTERNAL = "internal error, see the service's log"


def as_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def item_json(titles: Titles, item_id: str) -> dict[str, Any]:
    return {
        "item_id": item_id,
        "title": titles.title(item_id),
        "categories": list(titles.categories.get(item_id, ())),
    }


def ranked_json(ranked: Sequence[Recommendation], titles: Titles) -> list[dict[str, Any]]:
    return [{**item_json(titles, one.item_id), "score": round(one.score, 6)} for one in ranked]


def event_json(piece: Piece | Exception, titles: Titles) -> dict[str, Any]:
    if isinstance(piece, Answer):
        return {
            "type": "answer",
            "item": item_json(titles, piece.item.item_id) if piece.item else None,
            "status": piece.status,
            "tokens": piece.tokens,
            **({"items": ranked_json(piece.ranked, titles)} if piece.ranked else {}),
        }
    if isinstance(piece, Unavailable):
        return {"type": "error", "error": AWAY}
    if isinstance(piece, Exception):
        plain = isinstance(piece, GreamError | TimeoutError | Busy) and not isinstance(piece, ModelFault)
        return {"type": "error", "error": str(piece) if plain else INTERNAL}
    if isinstance(piece, Item):
        return {"type": "item", "item_id": piece.item_id, "title": piece.title}
    return {"type": "text", "text": piece.text}


def add_errors(app: FastAPI) -> None:
    """Every error is one line of JSON; what went wrong inside stands in the log alone."""

    def say(status: int, message: str, **headers: str) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][1:]))
        return say(422, f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return say(error.status_code, str(error.detail), **(error.headers or {}))

    @app.exception_handler(GreamError)
    async def mistake(request: Request, error: GreamError) -> JSONResponse:
        return say(422, str(error))

    @app.exception_handler(ModelFault)
    async def fault(request: Request, error: ModelFault) -> JSONResponse:
        logging.getLogger("uvicorn.error").error("%s", error)
        return say(500, INTERNAL)

    @app.exception_handler(Unavailable)
    async def away(request: Request, error: Unavailable) -> JSONResponse:
        logging.getLogger("uvicorn.error").warning("%s", error)
        return say(503, AWAY, **{"Retry-After": "5"})

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return say(503, str(error), **{"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> JSONResponse:
        return say(504, "no answer in time")

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        return say(500, INTERNAL)
