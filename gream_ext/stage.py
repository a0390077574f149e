"""A stage of the flow: a function from files to files, with typed settings.

Every room declares its stages as a module-level ``STAGE``. The command line, pipeline files
and the records of what made a file are all derived from that declaration.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gream_ext.workspace import Workspace


def option(default: Any = dataclasses.MISSING, *, help: str, choices: Sequence[Any] | None = None) -> Any:
    """A field of a settings dataclass: an option on the command line, a key in a pipeline file.

    Without a default the option is required. Lists and dicts are copied for each instance.
    """
    metadata = {"help": help, "choices": tuple(choices) if choices else None}
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
