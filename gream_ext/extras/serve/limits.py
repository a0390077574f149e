"""What a request to the service may cost."""

from dataclasses import dataclass

from gream_ext.stage import option


@dataclass(frozen=True)
class Limits:
    max_history: int = option(200, least=1, help="longest history of a request, in items")
    max_n: int = option(100, least=1, help="most items that a request may ask for")
    max_body: int = option(65_536, least=1, help="largest request, in bytes")
    max_batch: int = option(32, least=1, help="direct requests computed together")
    max_streams: int = option(8, least=1, help="reasonings under way at once; others wait")
    max_waiting: int = option(256, least=1, help="requests that may wait; more get 503")
    direct_seconds: float = option(30.0, above=0, help="seconds for a direct request")
    reason_seconds: float = option(120.0, above=0, help="seconds for a reasoning")
    body_seconds: float = option(
        10.0, above=0, help="seconds for the headers of a request, its body, and the client's reading of the answer"
    )
