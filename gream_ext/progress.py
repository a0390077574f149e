"""One progress bar for all long work: redrawn in a terminal; in a file or a pipe a line now and then."""

import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 30
LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} elapsed, {remaining} left{postfix}"
ENDLESS = "{desc}: {n_fmt} {unit}, {elapsed} elapsed{postfix}"


class _Lines:
    """What a bar redraws becomes lines of ``stream``."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> None:
        if line := text.strip():
            self.stream.write(line + "\n")

    def flush(self) -> None:
        self.stream.flush()


def progress(iterable: Iterable[Any] | None = None, *, total: int | None = None, unit: str, **options: Any) -> Any:
    """A tqdm bar on standard error; ``options`` are tqdm's."""
    if sys.stderr.isatty():
        return tqdm(iterable, total=total, unit=unit, **{"mininterval": 0.5, "dynamic_ncols": True, **options})
    known = total is not None or hasattr(iterable, "__len__")
    lines = {"mininterval": SECONDS_BETWEEN_LINES, "bar_format": LINE if known else ENDLESS, **options}
    return tqdm(iterable, total=total, unit=unit.strip(), file=_Lines(sys.stderr), **lines)


def step_format() -> str | None:
    """The format of a bar whose total becomes known later; None is tqdm's own."""
    return None if sys.stderr.isatty() else LINE
