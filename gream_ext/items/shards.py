"""Vectors in shards: files of so many rows each, kept as they are finished, so that what was done is not done again."""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.encoders import Encoder
from gream_ext.workspace import whole


@dataclass(frozen=True)
class Shard:
    """Texts that are encoded together, and the file for their vectors, float32 [texts, width]."""

    path: Path
    texts: Sequence[str]

    def finished(self) -> bool:
        """Whether the file is there and holds a finite row for each text; one that is damaged is encoded again."""
        try:
            vectors = np.load(self.path)
        except (OSError, ValueError, EOFError):
            return False
        return vectors.ndim == 2 and len(vectors) == len(self.texts) and bool(np.isfinite(vectors).all())

    def write(self, vectors: np.ndarray) -> None:
        with whole(self.path) as draft:
            buffer = io.BytesIO()
            np.save(buffer, vectors)
            draft.write_bytes(buffer.getvalue())


def plan(texts: Sequence[str], shard_size: int, folder: Path) -> list[Shard]:
    """Shards of ``shard_size`` texts; a file's name has a hash of its texts, so that it is never taken for others'."""
    parts = [texts[start : start + shard_size] for start in range(0, len(texts), shard_size)]
    return [Shard(folder / f"{number * shard_size:09d}-{digest(part)}.npy", part) for number, part in enumerate(parts)]


def encode(
    encoder: Encoder, texts: Sequence[str], batch_size: int, finished: Callable[[int], object] = int
) -> np.ndarray:
    """Vectors of ``texts``, float32 [texts, width]; ``finished`` is told of every batch how many texts it had.

    `GreamError` names a text whose vector is not finite.
    """
    vectors = np.empty((len(texts), encoder.width), dtype=np.float32)
    for first in range(0, len(texts), batch_size):
        batch = texts[first : first + batch_size]
        vectors[first : first + len(batch)] = encoder.encode(batch)
        finished(len(batch))
    if not np.isfinite(vectors).all():
        text = texts[int(np.argmin(np.isfinite(vectors).all(axis=1)))]
        raise GreamError(f"the encoder gave no finite vector for {text[:60]!r}: try --dtype float32")
    return vectors


def gather(shards: Sequence[Shard], rows: np.ndarray, shard_size: int, path: Path) -> int:
    """Bring the vectors of all shards into the order ``rows``, one shard in memory at a time; returns their width."""
    vectors: np.memmap | None = None
    for number, shard in enumerate(shards):
        found = np.load(shard.path)
        if vectors is None:
            shape = (len(rows), found.shape[1])
            vectors = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        mine = np.flatnonzero(rows // shard_size == number)
        vectors[mine] = found[rows[mine] - number * shard_size]
    assert vectors is not None
    vectors.flush()
    return int(vectors.shape[1])


def digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
