"""Quality of the item index, as the page shows it (provisional)."""

from collections.abc import Mapping
from typing import Any


def index_facts(quality: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(name).replace("_", " "), f"{value:,.4g}") for name, value in quality.items() if isinstance(value, int | float)]


def index_bars(quality: Mapping[str, Any]) -> list[dict[str, Any]]:
    return []
