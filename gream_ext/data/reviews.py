"""A curated set of reviews for each item (section 4.1), none of which belongs to a validation or test interaction.

The rule. A review counts when its user and item are a training interaction and in no validation or test interaction,
when it has at least so many words, and when its words are not those of a held-out review (a copy under another item)
or of a review already taken. Of those, the first by: more votes that it helped; more words, up to `LONG`; more stars;
row in the file.
"""

import hashlib
import heapq
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from gream_ext.data.ids import pairs
from gream_ext.data.records import clean
from gream_ext.data.sources import Review
from gream_ext.words import beginning, word_count

log = logging.getLogger(__name__)

LONG = 100
"""Words beyond which a longer review is no better."""
SPARE = 4
"""Candidates kept beyond those asked for: some may turn out to be copies of held-out reviews."""


@dataclass(frozen=True)
class Rule:
    """How many reviews of an item are taken, and which."""

    count: int
    min_words: int
    longest: int
    """Words of a review that are kept in memory."""


class Candidate(NamedTuple):
    """A review that may be taken; greater is better."""

    helpful: int
    words: int
    rating: float
    row: int
    """Minus its row in the file, so that no two are equal."""
    print: bytes
    user_id: str
    text: str


def curated(reviews: Iterable[Review], histories: pl.DataFrame, rule: Rule) -> dict[str, list[Candidate]]:
    """The reviews of each item that has any, best first; texts are clean and at most ``rule.longest`` words.

    ``histories`` has ``user_id``, ``item_id`` and ``split``. Memory grows with items times ``rule.count``, not with
    the reviews: each item has a heap of its best.
    """
    known = Pairs(histories)
    best: dict[str, list[Candidate]] = defaultdict(list)
    held_out: set[bytes] = set()
    met, row = 0, -1
    for row, review in enumerate(reviews):
        side = known.side(review.user_id, review.item_id)
        met += side is not None
        if side == "held out":
            held_out.add(fingerprint(review.text))
        elif side and (length := word_count(review.text)) >= rule.min_words:
            _offer(best[review.item_id], review, length, row, rule)
    if row >= 0 and not met:
        log.warning("none of %d reviews is of a user and item of the histories: are the ids written alike?", row + 1)
    chosen = {
        item: sorted((one for one in heap if one.print not in held_out), reverse=True)[: rule.count]
        for item, heap in best.items()
    }
    return {item: candidates for item, candidates in chosen.items() if candidates}


def _offer(heap: list[Candidate], review: Review, length: int, row: int, rule: Rule) -> None:
    """Put a review among the best of its item, if it is one of them."""
    rank = (review.helpful, min(length, LONG), review.rating, -row)
    full = len(heap) >= rule.count + SPARE
    if full and rank < heap[0][:4]:
        return
    mark = fingerprint(review.text)
    candidate = Candidate(*rank, mark, review.user_id, clean(beginning(review.text, rule.longest)))
    copy = next((number for number, one in enumerate(heap) if one.print == mark), None)
    if copy is not None:
        heap[copy] = max(heap[copy], candidate)
        heapq.heapify(heap)
    elif full:
        heapq.heapreplace(heap, candidate)
    else:
        heapq.heappush(heap, candidate)


class Pairs:
    """Which user-item pairs stand in the training split only, and which are held out."""

    def __init__(self, histories: pl.DataFrame):
        self._numbers = [
            {one: number for number, one in enumerate(histories[column].unique(maintain_order=True).cast(pl.String))}
            for column in ("user_id", "item_id")
        ]
        rows = pairs(histories)
        self._pairs = np.unique(rows)
        self._held_out = np.isin(self._pairs, rows[(histories["split"] != "train").to_numpy()])

    def side(self, user_id: str, item_id: str) -> Literal["train", "held out"] | None:
        """Where a pair stands; held out when any of its interactions is; None when it is in no history."""
        user, item = self._numbers[0].get(user_id), self._numbers[1].get(item_id)
        if user is None or item is None:
            return None
        pair = np.uint64(user << 32 | item)
        row = int(np.searchsorted(self._pairs, pair))
        if row == len(self._pairs) or self._pairs[row] != pair:
            return None
        return "held out" if self._held_out[row] else "train"


def fingerprint(text: str) -> bytes:
    """Eight bytes that tell texts apart, but not by case or white space."""
    return hashlib.blake2b(" ".join(text.split()).casefold().encode(errors="replace"), digest_size=8).digest()
