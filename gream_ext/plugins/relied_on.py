"""Names inside a framework that we touch and nobody promised us: looked up, and compared, before they are used.

Each plug-in declares its table in its ``internals.py``, the one place to look at for a new version of the framework.
"""

import importlib
import importlib.metadata
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from gream_ext.errors import GreamError

Names = Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]]
"""What of ours → module → attribute that it needs there → the parameters with which we call or override it.

They must come first and in this order, and what comes after must have a default. Empty where the attribute is no
function, or its parameters are not our concern: we give it one by position, or pass on what we were given.
"""


def installed(distribution: str) -> str:
    """The installed version of a distribution, ``unknown`` if its metadata are gone."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class ReliedOn:
    """What we rely on in one framework."""

    framework: str
    """As sentences call it."""
    distribution: str
    """As pip calls it."""
    supported: tuple[str, ...]
    """Versions that the tests run with."""
    names: Names

    def version(self) -> str:
        """The installed version."""
        return installed(self.distribution)

    def unsupported(self) -> str:
        """A sentence when the installed version is not one that the tests run with, else ``""``."""
        if self.version() in self.supported:
            return ""
        return f"{self._name} is not a version that gream_ext supports: {self._cure}"

    def check(self, part: str) -> None:
        """`GreamError` when a name that a part of ours needs is gone, or takes other parameters."""
        for module, names in self.names[part].items():
            for name in names:
                self.find(part, module, name)

    def find(self, part: str, module: str | ModuleType, name: str) -> Any:
        """An attribute that `names` lists; `GreamError` names the version when it is not there or takes something else.

        A module that Python is still importing is given itself.
        """
        path = module if isinstance(module, str) else module.__name__
        if name not in self.names[part][path]:
            raise KeyError(f"{path}.{name} is not listed for {part}")
        cure = f"which the {part} of gream_ext needs: {self._cure}"
        try:
            found: Any = importlib.import_module(module) if isinstance(module, str) else module
            for step in name.split("."):
                found = getattr(found, step)
        except (ImportError, AttributeError) as error:
            raise GreamError(f"{self._name} has no {path}.{name} ({error}), {cure}") from error
        if wanted := self.names[part][path][name]:
            taken = inspect.signature(found).parameters
            needed = [one.name for one in list(taken.values())[len(wanted) :] if _must_be_given(one)]
            if tuple(taken)[: len(wanted)] != wanted or needed:
                raise GreamError(f"{path}.{name} of {self._name} takes ({', '.join(taken)}), "
                                 f"not ({', '.join(wanted)}), {cure}")  # fmt: skip
        return found

    @property
    def _name(self) -> str:
        return f"{self.framework} {self.version()}"

    @property
    def _cure(self) -> str:
        return f"install {self.distribution}=={self.supported[-1]}"


def _must_be_given(parameter: inspect.Parameter) -> bool:
    several = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and not several
