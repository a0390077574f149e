"""What the service counts, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class Measures:
    """The counters of one application, in a registry of its own; ``set_function`` says what a gauge is now."""

    def __init__(self) -> None:
        disable_created_metrics()
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "gream_requests", "Requests answered, by path and HTTP status.", ["path", "status"], registry=own
        )
        self.seconds = Histogram(
            "gream_request_seconds", "Time to the last byte, by path.", ["path"], buckets=SECONDS, registry=own
        )
        self.batches = Histogram("gream_batch_size", "Direct requests computed together.", buckets=SIZES, registry=own)
        self.tokens = Counter("gream_reasoning_tokens", "Tokens sampled in reasoning mode.", registry=own)
        self.reasonings = Counter("gream_reasonings", "Reasonings ended, by how they ended.", ["ended"], registry=own)
        self.waiting = Gauge("gream_waiting", "Requests that wait for the model.", registry=own)
        self.up = Gauge("gream_up", "1 while the model's thread runs.", registry=own)

    def text(self) -> str:
        return generate_latest(self.registry).decode()
