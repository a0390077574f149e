"""Values of the frameworks' configuration, checked: a wrong one is named in a sentence."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from gream_ext.errors import GreamError


def demand(key: str, value: Any, right: bool, wanted: str) -> None:
    """`GreamError` unless ``right``."""
    if not right:
        raise GreamError(f"{key} must be {wanted}, not {value!r}")


def only(key: str, given: Mapping[Any, Any], names: Iterable[str]) -> None:
    """`GreamError` for an option under ``key`` that is none of ``names``."""
    for name in given:
        if name not in names:
            raise GreamError(f"{key} has no option {name!r}, only {', '.join(names)}")


def is_whole(value: Any) -> bool:
    """A whole number, 0 or more; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_number(value: Any) -> bool:
    """A finite number, 0 or more; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def is_finite(value: Any) -> bool:
    """Something that Python takes for a number, neither infinite nor NaN."""
    try:
        return math.isfinite(value)
    except (TypeError, ValueError, OverflowError):
        return False
