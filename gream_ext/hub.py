"""Models by their names on the Hugging Face hub, through its own client: cache, ``HF_HOME``, offline mode."""

import re
from pathlib import Path

from gream_ext.errors import GreamError

NAME = re.compile(r"[\w.-]+/[\w.-]+")
CARD = "README.md"
FILES = (CARD, "*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
"""What is fetched: nothing pickled, and no code unless asked for."""
NOT = ["onnx/*", "openvino/*", "original/*"]


def model_folder(name: str, code: bool = False) -> Path:
    """The folder of a model: ``name`` as a path where there is one, else the model of that name on the hub.

    ``code`` fetches Python files too. What is in the cache needs no network (``HF_HUB_OFFLINE=1`` uses none).
    `GreamError` for what can be neither found nor fetched. A name that cannot be of the hub comes back as a path.
    """
    if not is_of_hub(name):
        return Path(name).expanduser()
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*FILES, *(["*.py"] if code else [])], ignore_patterns=NOT))
    except hub_errors() as error:
        raise GreamError(
            f"{name} is no folder here, and the Hugging Face hub gives no such model ({why(error)}): give a folder, or "
            "fetch it once where there is a network, with HF_HOME on a disk that this machine sees"
        ) from None


def is_of_hub(name: str) -> bool:
    """Whether ``name`` is no path here and can be of the hub."""
    return NAME.fullmatch(name) is not None and not name.startswith(".") and not Path(name).expanduser().exists()


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises; where no server answers that may be an error of httpx, below it."""
    import httpx

    return OSError, ValueError, httpx.HTTPError


def why(error: Exception) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")


def license_of(name: str) -> str | None:
    """The licence that the card of a model states, from its folder or the hub's cache; asks no network."""
    from huggingface_hub import ModelCard, try_to_load_from_cache

    path = Path(name).expanduser() / CARD
    if not path.is_file() and NAME.fullmatch(name) and not name.startswith("."):
        cached = try_to_load_from_cache(name, CARD)
        path = Path(cached) if isinstance(cached, str) else path
    try:
        stated = ModelCard.load(path).data.license if path.is_file() else None
    except (OSError, ValueError):
        return None
    return stated if isinstance(stated, str) else None
