"""The service on its socket: a model, what it may answer, and uvicorn."""

import logging
import socket

import uvicorn

from gream_ext.errors import GreamError
from gream_ext.extras.serve.connections import BACKLOG, bounded_connections
from gream_ext.extras.serve.service import Shop, create_app
from gream_ext.extras.serve.stages import ServeSettings
from gream_ext.inference.device import check_device
from gream_ext.inference.model import load
from gream_ext.inference.source import find_source
from gream_ext.workspace import Workspace

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def serve(workspace: Workspace, settings: ServeSettings) -> None:
    """Answer until the process is told to end."""
    if settings.server is None:
        check_device(settings.device)
    source = find_source(workspace, settings.model, settings.export)
    histories = source.histories() if settings.users else {}
    shop = Shop(source.titles, tuple(histories), histories.get, source.name, source.repeats)
    recommender = load(
        source, settings.device, settings.max_tokens, settings.engine, settings.server, settings.normalisation
    )
    app = create_app(recommender, shop, settings, answered_hosts(settings))
    with listening(settings.host, settings.port) as listener:
        host, port = listener.getsockname()[:2]
        print(f"gream serve: {source.name}, {len(source.index):,} items, http://{host}:{port}/", flush=True)
        if settings.host not in LOOPBACK:
            print("gream serve: open to other machines, without a password", flush=True)
        logging.getLogger("uvicorn.access").disabled = True  # no line for every request
        config = uvicorn.Config(
            app, http=bounded_connections(settings.body_seconds, settings.max_connections), backlog=BACKLOG,
            timeout_graceful_shutdown=5, log_level="info", access_log=False, server_header=False, date_header=False,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])


def answered_hosts(settings: ServeSettings) -> frozenset[str] | None:
    """The names that requests may call the service by; None: any.

    A page of elsewhere whose name is made to mean 127.0.0.1 would be let in otherwise (DNS rebinding).
    """
    if settings.host not in LOOPBACK and not settings.allowed_hosts:
        return None
    return LOOPBACK | {name.lower() for name in (settings.host, *settings.allowed_hosts)}


def listening(host: str, port: int) -> socket.socket:
    """A listening socket, before the model is asked anything; `GreamError` when the address is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        why = error.strerror or error
        raise GreamError(f"cannot listen on {host} port {port} ({why}): choose another --host or --port") from None
