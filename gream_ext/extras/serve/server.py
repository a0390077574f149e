"""The service on its socket: a model, what it may answer, and uvicorn."""

import socket
from typing import TYPE_CHECKING

import uvicorn

from gream_ext.errors import GreamError
from gream_ext.extras.serve.connections import BACKLOG, bounded_connections
from gream_ext.extras.serve.guard import log_without_noise
from gream_ext.extras.serve.service import Limits, Shop, create_app
from gream_ext.inference.model import load
from gream_ext.inference.source import Source

if TYPE_CHECKING:
    from gream_ext.extras.serve.stages import ServeSettings

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def serve(source: Source, settings: "ServeSettings") -> None:
    """Answer until the process is told to end."""
    shop = make_shop(source, settings)
    recommender = load(
        source, settings.device, settings.max_tokens, settings.engine, settings.server, settings.normalisation
    )
    app = create_app(recommender, shop, limits(settings), answered_hosts(settings))
    with listening(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        print(f"gream serve: {source.name}, {len(source.index):,} items, http://{host}:{port}/", flush=True)
        if settings.host not in LOOPBACK:
            print("gream serve: open to other machines, without a password", flush=True)
        http = bounded_connections(settings.body_seconds, settings.max_connections)
        config = uvicorn.Config(app, http=http, backlog=BACKLOG, timeout_graceful_shutdown=5, **log_without_noise())
        uvicorn.Server(config).run(sockets=[listener])


def answered_hosts(settings: "ServeSettings") -> frozenset[str] | None:
    """The names that requests may call the service by; None: any.

    A page of elsewhere whose name is made to mean 127.0.0.1 would be let in otherwise (DNS rebinding).
    """
    if settings.host not in LOOPBACK and not settings.allowed_hosts:
        return None
    return LOOPBACK | {name.lower() for name in (settings.host, *settings.allowed_hosts)}


def make_shop(source: Source, settings: "ServeSettings") -> Shop:
    histories = source.histories() if settings.users else {}
    return Shop(source.titles, tuple(histories), histories.get, source.name, source.repeats)


def limits(settings: "ServeSettings") -> Limits:
    names = ("max_history", "max_n", "body_seconds", "direct_seconds", "reason_seconds", "max_batch", "max_streams",
             "max_waiting")  # fmt: skip
    return Limits(**{name: getattr(settings, name) for name in names})


def listening(host: str, port: int) -> socket.socket:
    """A listening socket, before the model is asked anything; `GreamError` when the address is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or error
        raise GreamError(f"cannot listen on {host} port {port} ({why}): choose another --host or --port") from None
