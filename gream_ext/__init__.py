"""GREAM, generative reasoning recommendation, as plug-ins for LLaMA-Factory, Verl and SGLang.

Importing this package loads the standard library only; every room imports what it
needs. docs/architecture.md shows the rooms, docs/paper_map.md where each equation lives.

Public, and stable with the command line: `load` (see `gream_ext.api`), `metrics` (`gream_ext.evaluation.metrics`),
`GreamError`, and the modules `rewards`, `advantages` and `curriculum`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gream_ext.api import Recommender as Recommender
    from gream_ext.api import load as load
    from gream_ext.errors import GreamError as GreamError
    from gream_ext.evaluation import metrics as metrics

__version__ = "0.1.0"
_PUBLIC = {
    "load": ("gream_ext.api", "load"),
    "Recommender": ("gream_ext.api", "Recommender"),
    "GreamError": ("gream_ext.errors", "GreamError"),
    "metrics": ("gream_ext.evaluation.metrics", None),
}
"""Where a public name is, imported when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PUBLIC[name]
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
