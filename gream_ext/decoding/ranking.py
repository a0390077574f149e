"""What direct mode answers, whichever engine computes it."""

from collections.abc import Sequence
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
    def merged(cls, rankings: "Sequence[Ranking]", most: int) -> "Ranking":
        """The ``most`` likeliest items over several rankings of one request, such as one after each of its reasonings.

        An item's score is the logarithm of its mean probability; where a ranking does not hold it that is 0. With none
        to merge there is nothing in it.
        """
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *(one.rows for one in rankings)])
        scores = np.concatenate([np.zeros(0), *(one.scores.astype(np.float64) for one in rankings)])
        items, places = np.unique(rows, return_inverse=True)
        totals = np.full(len(items), -np.inf)
        np.logaddexp.at(totals, places, scores)
        best = np.argsort(-totals, kind="stable")[:most]
        return cls(items[best], (totals[best] - np.log(max(1, len(rankings)))).astype(np.float32))

    @classmethod
    def failed(cls, error: str) -> "Ranking":
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32), error)
