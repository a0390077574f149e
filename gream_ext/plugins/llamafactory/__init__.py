"""The curriculum of section 4.3 inside LLaMA-Factory."""

from collections.abc import Callable
from types import ModuleType

ADAPTATIONS: dict[str, Callable[[ModuleType], None]] = {}
"""Module of LLaMA-Factory → what is done to it right after it was imported."""
