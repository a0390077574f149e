"""What direct mode answers, whichever engine computes it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Normalisation = Literal["catalogue", "vocabulary"]
"""Over what the probabilities of one step add up to one.

``catalogue``: over the tokens that continue a real identifier, whichever items are asked for, so
that leaving items out changes the score of no other. ``vocabulary``: over every token, as
transformers' ``generate`` does with ``prefix_allowed_tokens_fn``.
"""


@dataclass(frozen=True, eq=False)
class Ranking:
    """The answer to one request: rows of the item index, best first, no item twice.

    ``rows`` int64 and ``scores`` float32 (log-probabilities), as many as were asked for, or as
    the request's sub-catalogue holds. ``error`` says why there is none.
    """

    rows: np.ndarray
    scores: np.ndarray
    error: str | None = None

    @classmethod
    def failed(cls, error: str) -> "Ranking":
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), error)
