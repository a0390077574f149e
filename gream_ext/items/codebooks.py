"""The codebooks of an item index on disk: one safetensors file, ``level_0``, ``level_1`` …"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from gream_ext.errors import GreamError
from gream_ext.workspace import whole


def save_codebooks(path: Path, codebooks: Sequence[np.ndarray]) -> str:
    """Write float32 [size, width] codebooks whole; returns the SHA-256 of the file."""
    with whole(path) as draft:
        save_file({f"level_{level}": codebook for level, codebook in enumerate(codebooks)}, draft)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_codebooks(path: Path, sizes: Sequence[int], sha256: str | None = None) -> list[np.ndarray]:
    """The codebooks of levels of ``sizes``; ``sha256`` is what the index says of the file.

    Raises `GreamError`: no file, another than the index was made with, damaged, or codebooks of another index.
    """
    if not path.is_file():
        raise GreamError(f"{path} is missing: an index made with --from-file has none; `gream index build` makes them")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise GreamError(f"{path} is not the file that its item index was made with: take both from the same place")
    try:
        found = load(content)
    except SafetensorError as error:
        raise GreamError(f"{path} is damaged ({error}): run `gream index build` again") from None
    books = [found[name] for name in sorted(found, key=lambda name: (len(name), name))]
    names = {f"level_{level}" for level in range(len(sizes))}
    if found.keys() != names or [len(book) for book in books] != list(sizes) or len({b.shape[1:] for b in books}) > 1:
        shapes = ", ".join(str(list(book.shape)) for book in books)
        raise GreamError(f"{path} has codebooks {shapes}, its index {list(sizes)}: run `gream index build` again")
    if not all(book.dtype == np.float32 and np.isfinite(book).all() for book in books):
        raise GreamError(f"{path} has numbers that are not finite float32: run `gream index build` again")
    return books
