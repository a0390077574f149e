"""A stage of the flow: a function from files to files, with typed settings.

Every room declares its stages as a module-level ``STAGE``. The command line, pipeline files
and the records of what made a file are all derived from that declaration.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class Later:
    """A function by its place, ``module:name``, imported when it is called: what it needs may be heavy, or missing."""

    place: str
    extra: str = ""
    """The optional extra of pyproject.toml that has what it needs."""

    def __call__(self, *arguments: Any) -> Any:
        module, _, name = self.place.partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if not self.extra:
                raise
            raise GreamError(f"{error.name} is not installed: pip install 'gream-ext[{self.extra}]'") from None
        return function(*arguments)


@dataclass(frozen=True)
class Bounds:
    """The numbers that an option takes: from ``least``, or above ``above``, to ``most``; None is no bound.

    >>> 0.0 in Bounds(above=0, most=1), str(Bounds(above=0, most=1)), str(Bounds(least=1))
    (False, 'above 0 and at most 1', 'at least 1')
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
        )

    def __str__(self) -> str:
        said = {"at least": self.least, "above": self.above, "at most": self.most}
        return " and ".join(f"{words} {bound:,}" for words, bound in said.items() if bound is not None)


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    choices: Sequence[Any] | None = None,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    machine: bool = False,
) -> Any:
    """A field of a settings dataclass: an option on the command line, a key in a pipeline file.

    Without a default the option is required. Lists and dicts are copied for each instance. ``least``, ``above`` and
    ``most`` bound a number, or each number of a list (`Bounds`). ``machine``: it says where the work is done or how it
    is cut up; another value makes no finished work stale.
    """
    metadata = {
        "help": help,
        "choices": tuple(choices) if choices else None,
        "bounds": Bounds(least=least, above=above, most=most),
        "machine": machine,
    }
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def _no_files(workspace: Workspace, settings: Any) -> Sequence[Path]:
    return ()


@dataclass(frozen=True)
class Stage:
    """What a room contributes to the flow.

    ``settings`` is a frozen dataclass whose fields are made with `option`. ``reads`` and
    ``writes`` name files or folders; a stage whose record matches its settings and the hashes
    of what it reads, and whose files are all there, need not run again.
    """

    name: str
    settings: type
    run: Callable[[Workspace, Any], None]
    reads: Callable[[Workspace, Any], Sequence[Path]] = _no_files
    writes: Callable[[Workspace, Any], Sequence[Path]] = _no_files
    label: Callable[[Any], str] | None = None
    """What tells two runs of this stage apart in one workspace, e.g. ``evaluate sft direct test``."""
    show: Callable[[Workspace, Any], None] | None = None
    """Prints once more what a stage that is up to date found, from its files."""

    def label_of(self, settings: Any) -> str:
        return self.label(settings) if self.label else self.name
