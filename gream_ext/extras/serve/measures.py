"""Counters and histograms of the service, in Prometheus' text format."""

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

Labels = tuple[tuple[str, str], ...]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass
class Counter:
    """A number that only grows, one for each combination of labels."""

    name: str
    about: str
    values: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, amount: float = 1.0, **labels: str) -> None:
        with self.lock:
            self.values[tuple(sorted(labels.items()))] += amount

    def lines(self) -> list[str]:
        with self.lock:
            values = dict(self.values)
        return [
            f"# HELP {self.name} {self.about}",
            f"# TYPE {self.name} counter",
            *(f"{self.name}{label_text(labels)} {value:g}" for labels, value in sorted(values.items())),
        ]


@dataclass
class Histogram:
    """How many observations fell below each bound."""

    name: str
    about: str
    bounds: Sequence[float]
    counts: dict[Labels, list[int]] = field(default_factory=dict)
    sums: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def observe(self, value: float, **labels: str) -> None:
        key = tuple(sorted(labels.items()))
        with self.lock:
            self.counts.setdefault(key, [0] * (len(self.bounds) + 1))[bisect_left(self.bounds, value)] += 1
            self.sums[key] += value

    def lines(self) -> list[str]:
        lines = [f"# HELP {self.name} {self.about}", f"# TYPE {self.name} histogram"]
        with self.lock:
            counts = {key: list(value) for key, value in self.counts.items()}
            sums = dict(self.sums)
        for key, own in sorted(counts.items()):
            below = 0
            for bound, count in zip([*(f"{bound:g}" for bound in self.bounds), "+Inf"], own, strict=True):
                below += count
                lines.append(f"{self.name}_bucket{label_text((*key, ('le', bound)))} {below}")
            lines.append(f"{self.name}_sum{label_text(key)} {sums[key]:g}")
            lines.append(f"{self.name}_count{label_text(key)} {below}")
        return lines


def label_text(labels: Labels) -> str:
    """
    >>> label_text((("mode", "direct"), ("said", 'a "b"')))
    '{mode="direct",said="a \\\\"b\\\\""}'
    """
    if not labels:
        return ""
    escaped = ((name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


@dataclass
class Measures:
    """What the service counts."""

    requests: Counter = field(
        default_factory=lambda: Counter("gream_requests_total", "Requests answered, by path and HTTP status.")
    )
    seconds: Histogram = field(
        default_factory=lambda: Histogram("gream_request_seconds", "Time to the last byte, by path.", SECONDS)
    )
    batches: Histogram = field(
        default_factory=lambda: Histogram("gream_batch_size", "Direct requests computed together.", SIZES)
    )
    tokens: Counter = field(
        default_factory=lambda: Counter("gream_reasoning_tokens_total", "Tokens sampled in reasoning mode.")
    )
    reasonings: Counter = field(
        default_factory=lambda: Counter("gream_reasonings_total", "Reasonings ended, by how they ended.")
    )

    def text(self, **gauges: float) -> str:
        """Everything, and the given gauges as they are now."""
        parts: list[Counter | Histogram] = [self.requests, self.seconds, self.batches, self.tokens, self.reasonings]
        lines = [line for part in parts for line in part.lines()]
        for name, value in gauges.items():
            lines.extend([f"# TYPE gream_{name} gauge", f"gream_{name} {value:g}"])
        return "\n".join(lines) + "\n"
