"""The codebooks of an item index on disk: one safetensors file, ``level_0``, ``level_1`` …"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.workspace import whole


def save_codebooks(path: Path, codebooks: Sequence[np.ndarray]) -> str:
    """Write float32 [size, width] codebooks whole; returns the SHA-256 of the file."""
    from safetensors.numpy import save_file

    with whole(path) as draft:
        save_file({f"level_{level}": codebook for level, codebook in enumerate(codebooks)}, draft)
        draft.chmod(0o644)  # safetensors lets nobody else read
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_codebooks(path: Path, sizes: Sequence[int], sha256: str | None = None) -> list[np.ndarray]:
    """The codebooks of levels of ``sizes``; ``sha256`` is what the index says of the file.

    Raises `GreamError` that says what is wrong: no file, not safetensors, another file than the index was made with,
    a level that is missing, too many, of another size or width, or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if not path.is_file():
        raise GreamError(f"{path} is missing: an index made with --from-file has none; `gream index build` makes them")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise GreamError(f"{path} is not the file that its item index was made with: take both from the same place")
    try:
        found = load(content)
    except SafetensorError as error:
        raise GreamError(f"{path} is damaged ({error}): run `gream index build` again") from None
    names = [f"level_{level}" for level in range(len(sizes))]
    if missing := [name for name in names if name not in found]:
        raise GreamError(f"{path} lacks {missing[0]} of {len(sizes)} levels: run `gream index build` again")
    if more := sorted(set(found) - set(names)):
        raise GreamError(f"{path} has {more[0]}, but the index has {len(sizes)} levels: run `gream index build` again")
    width = found[names[0]].shape[-1]
    for name, size in zip(names, sizes, strict=True):
        book = found[name]
        if book.shape != (size, width) or book.dtype != np.float32:
            raise GreamError(
                f"{path}: {name} is {book.dtype} of shape {book.shape}, not float32 of ({size}, {width}): "
                "run `gream index build` again"
            )
        if not np.isfinite(book).all():
            raise GreamError(f"{path}: {name} has numbers that are not finite: run `gream index build` again")
    return [found[name] for name in names]
