"""Is there such a device? Asked before anything is loaded."""

from gream_ext.errors import GreamError


def chosen_device(device: str) -> str:
    """``device``, and for ``auto`` cuda where there is one, else cpu."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> None:
    """`GreamError` unless torch can compute on ``device`` here; ``auto`` and ``cpu`` pass without importing torch."""
    if device in ("auto", "cpu"):
        return
    import torch

    try:
        named = torch.device(device)
        kind = torch.get_device_module(named)
        found = kind.device_count() if kind.is_available() else 0
    except (RuntimeError, AttributeError):  # no device of that name, or one without a number of its own, as meta
        found, named = 0, torch.device("cpu")
    if (named.index or 0) >= found:
        there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))])
        raise GreamError(f"--device {device}: torch finds no such device here, only {there}")
