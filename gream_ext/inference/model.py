"""A recommender for people, over the two modes of `modes`: titles beside ids, a reasoning piece by piece."""

import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

from gream_ext.decoding.ranking import Normalisation
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.identifiers import Identifier
from gream_ext.inference.co_occurrence import CoOccurrence
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.engines.choose import open_engine
from gream_ext.inference.engines.names import EngineName
from gream_ext.inference.loading import chosen_device
from gream_ext.inference.modes import TRUNCATED, UNKNOWN_ITEM, Modes, Reasoning
from gream_ext.inference.pieces import Pieces
from gream_ext.inference.questions import Answer, Item, Piece, Question, Recommendation, Text
from gream_ext.inference.source import Source
from gream_ext.inference.titles import Titles
from gream_ext.rewards import STATUSES

BEAMS = 20
"""As in evaluation; more where more items are asked for."""
MARKER = re.compile(r"</?think>\n?|</?answer>")
WHY = {**STATUSES, UNKNOWN_ITEM: "the answer names no item of the catalogue"}


def load(
    source: Source,
    device: str = "cpu",
    max_new_tokens: int = 1024,
    engine: EngineName = "transformers",
    server: str | None = None,
    normalisation: Normalisation = "catalogue",
    prior_weight: float | None = None,
) -> "ModelRecommender":
    """Load the model of a source onto ``device`` (``auto``: cuda where there is one).

    ``prior_weight`` is that of the co-occurrence prior in direct mode; None: the model alone. `GreamError` when its
    folder cannot be read or does not fit the item index, and for a prior where there are no interactions to count.
    """

    def make_trie(tokenizer: Any) -> ItemTrie:
        trie = ItemTrie.load(source.trie) if source.trie else ItemTrie.from_index(source.index, tokenizer)
        if len(trie) != len(source.index):
            raise GreamError(f"{source.trie} has {len(trie)} items, the item index {len(source.index)}: export again")
        return trie

    training = () if prior_weight is None else source.training().values()
    if prior_weight is not None and not training:
        raise GreamError("an export has no interactions, which the prior counts: name the workspace, or leave it out")
    prior = None if prior_weight is None else CoOccurrence.fitted(source.index, training, prior_weight)
    device = chosen_device(device)
    opened = open_engine(engine, source.model, make_trie, device, server=server, normalisation=normalisation)
    modes = Modes(opened, source.index, source.how.prompts, prior)
    return ModelRecommender(modes, source.titles, max_new_tokens)


def without_markers(text: str) -> str:
    """A reasoning as people read it.

    >>> without_markers("<think>\\nso\\n</think>\\ntea: <answer>")
    'so\\ntea: '
    """
    return MARKER.sub("", text)


class ModelRecommender:
    """Answers questions; see `questions.Recommender`. Not for two threads at once."""

    def __init__(self, modes: Modes, titles: Titles, max_new_tokens: int = 1024):
        self.modes, self.titles = modes, titles
        self.sampling = Sampling(n=1, max_new_tokens=max_new_tokens)

    def direct(self, questions: Sequence[Question]) -> list[list[Recommendation]]:
        """Direct mode. A question's answer does not depend on the questions beside it."""
        found: list[list[Recommendation]] = [[] for _ in questions]
        widths = [max(BEAMS, question.n) for question in questions]
        for width in sorted(set(widths)):
            places = [place for place, own in enumerate(widths) if own == width]
            answers = self.modes.direct([questions[place] for place in places], width)
            for place, ranked in zip(places, answers, strict=True):
                found[place] = self._titled(ranked, questions[place].n)
        return found

    def reason(self, question: Question) -> Generator[Piece | None, None, None]:
        """Reasoning mode: one sample, its identifiers as items, at the end what is recommended.

        Where a question asks for several ``reasonings``, the others are drawn beside the one that is shown.
        """
        pieces = Pieces(self._item, self.modes.index.length)
        last: Reasoning | None = None
        ranked: list[Recommendation] = []
        said: list[str] = []
        sampling = replace(self.sampling, n=max(1, question.reasonings))
        beams = max(BEAMS, question.n) if question.reasonings else 0
        for one in self.modes.stream(question, sampling, question.seed, beams):
            if isinstance(one, list):
                ranked = self._titled(one, question.n)
                continue
            last = one
            grown = list(pieces.grow(last.text, ended=last.finish is not None))
            said += [piece.text if isinstance(piece, Text) else piece.title for piece in grown]
            yield from grown
            if not grown:
                yield None
        if last is None:
            raise GreamError("the model answered nothing")
        item = Item(last.item_id, self.titles.title(last.item_id)) if last.item_id else None
        cut = f"the reasoning was cut at {last.tokens} tokens"
        status = cut if last.status == TRUNCATED else WHY.get(last.status, last.status)
        yield Answer(item, status, last.tokens, without_markers("".join(said)).strip(), tuple(ranked))

    def _titled(self, ranked: Sequence[Recommendation], n: int) -> list[Recommendation]:
        return [replace(one, title=self.titles.title(one.item_id)) for one in ranked[:n]]

    def _item(self, identifier: Identifier) -> Item | None:
        item = self.modes.index.item(identifier)
        return Item(item, self.titles.title(item)) if item else None
