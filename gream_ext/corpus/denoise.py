"""Denoised sequence rewriting (section 4.2): which items of a history are kept, by their embeddings."""

import numpy as np

from gream_ext.corpus.profile import RECENT


def kept_positions(vectors: np.ndarray, most: int) -> list[int]:
    """Positions of a history that are not noise, in order, at most the last ``most`` of them.

    ``vectors`` is float [items, width], oldest first. An item is noise when its cosine distance to
    the history's middle (half all items, half the recent ones) is more than a standard deviation
    above the mean distance. The last item is never noise.
    """
    unit = normalised(vectors)
    middle = normalised((unit.mean(axis=0) + unit[-RECENT:].mean(axis=0))[None])[0]
    distance = 1 - unit @ middle
    limit = distance.mean() + distance.std() + 1e-6
    kept = [position for position in range(len(unit)) if distance[position] <= limit or position == len(unit) - 1]
    return kept[-most:]


def nearest_position(vectors: np.ndarray, target: np.ndarray) -> int:
    """The position whose vector [items, width] has the highest cosine with ``target`` [width]; ties go to the last."""
    likeness = normalised(vectors) @ normalised(target[None])[0]
    return len(likeness) - 1 - int(np.argmax(np.round(likeness[::-1], 6)))


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length one, float64 [rows, width]; a row of zeros stays."""
    rows = np.asarray(vectors, dtype=np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
