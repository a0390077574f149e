"""What torch calls at the end of ``import torch``: the door to LLaMA-Factory, which has no plugin system.

An entry point of the group ``torch.backends`` runs in every process that imports torch, and
LLaMA-Factory imports torch before any module of its own that we extend. So `install` puts a
finder on ``sys.meta_path`` which waits for modules of LLaMA-Factory; nothing else happens, and
nothing of ours is imported, in a process that does not use LLaMA-Factory. What is done to its
modules stands in `gream_ext.plugins.llamafactory`.

Switches (environment variables):
- ``GREAM_LLAMAFACTORY=0`` (or ``false``, ``no``, ``off``): leave LLaMA-Factory alone; it then
  refuses our keys in a YAML as unknown.
- ``TORCH_DEVICE_BACKEND_AUTOLOAD=0``: torch's own switch, turns off all such entry points.

This module must stay tiny, import the standard library only, and never raise: an exception here
would break ``import torch``.
"""

import contextlib
import importlib
import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

SWITCH = "GREAM_LLAMAFACTORY"
FRAMEWORK = "llamafactory."


def switched_off() -> bool:
    """Whether the user turned our hook in LLaMA-Factory off."""
    return os.environ.get(SWITCH, "").strip().lower() in {"0", "false", "no", "off"}


def install() -> None:
    """Wait for LLaMA-Factory's modules. Harmless when called again, never raises."""
    try:
        if not switched_off() and not any(isinstance(finder, LlamaFactoryFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, LlamaFactoryFinder())
    except Exception as error:
        _complain(error)


class LlamaFactoryFinder:
    """Finds LLaMA-Factory's modules where Python would, and has the ones we extend adapted after they ran."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(FRAMEWORK):
            return None
        try:
            adaptations = importlib.import_module("gream_ext.plugins.llamafactory").ADAPTATIONS
            spec = PathFinder.find_spec(name, path, target) if name in adaptations else None
            if spec is not None and spec.loader is not None:
                _after_execution(spec.loader, adaptations[name])
            return spec
        except Exception as error:
            _complain(error)
            return None


def _after_execution(loader: Any, adapt: Any) -> None:
    """Let ``adapt(module)`` follow the module's own code."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        try:
            adapt(module)
        except Exception as error:
            _complain(error)

    loader.exec_module = exec_module


def _complain(error: Exception) -> None:
    with contextlib.suppress(Exception):
        print(f"gream: LLaMA-Factory is left as it is, {type(error).__name__}: {error}", file=sys.stderr)
