"""Command ``serve``: recommendations over HTTP, and one page to try them."""

from dataclasses import dataclass

from gream_ext.extras.serve.limits import Limits
from gream_ext.inference.engines.names import (
    ENGINE_HELP,
    NORMALISATION_HELP,
    SERVER_HELP,
    EngineName,
    Normalisation,
    check_engine,
)
from gream_ext.inference.sharing import EXPORT_HELP
from gream_ext.stage import Later, Stage, option


@dataclass(frozen=True)
class ServeSettings(Limits):
    host: str = option("127.0.0.1", help="address to listen on; 0.0.0.0 lets every machine in")
    allowed_hosts: list[str] = option(
        [],
        help="further host names that the service answers to, such as your proxy's; without any, a service that "
        "listens on this machine only answers to localhost alone, so that no web page can reach it under another "
        "name, and any other service to every name",
    )
    port: int = option(8000, least=0, most=65_535, help="port to listen on; 0: any free one")
    model: str | None = option(None, help="sft or srpo; without it the one that was trained last")
    export: str | None = option(None, help=EXPORT_HELP)
    device: str = option("auto", help="cpu, cuda, cuda:1 …; auto: cuda where there is one")
    engine: EngineName = option("transformers", help=ENGINE_HELP)
    server: str | None = option(None, help=SERVER_HELP)
    normalisation: Normalisation = option("catalogue", help=NORMALISATION_HELP)
    users: bool = option(True, help="let callers read the histories of the workspace's users")
    max_tokens: int = option(1024, least=1, help="longest reasoning, in tokens")
    max_connections: int = option(512, least=1, help="connections at once; further ones are closed")

    def __post_init__(self) -> None:
        check_engine(self.engine, self.server)


STAGE = Stage(name="serve", settings=ServeSettings, run=Later("gream_ext.extras.serve.server:serve", extra="serve"))
