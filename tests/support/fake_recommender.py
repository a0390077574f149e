"""A recommender without a model, for tests of the service: the catalogue in its order, a reasoning of fixed pieces."""

import threading
import time
from collections.abc import Generator, Sequence

from gream_ext.errors import GreamError, ModelFault
from gream_ext.inference.engines.names import Unavailable
from gream_ext.inference.questions import Answer, Item, Piece, Question, Recommendation, Text
from gream_ext.inference.titles import Titles

TITLES = Titles(
    {f"i{n}": title for n, title in enumerate(["Velta", "The Brokai", "Stamé Lu", "Velta Returns", "Lu"])},
    {"i0": ("Comedy",), "i1": ("Drama",), "i2": ("Comedy", "Drama"), "i3": (), "i4": ("Horror",)},
)


class FakeRecommender:
    """Recommends in the order of the catalogue; notes how many questions came together.

    The first batch, once ``begun``, waits for ``go``.
    """

    def __init__(self, pause: float = 0.0):
        self.pause = pause
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()
        self.batches: list[int] = []
        self.tokens = 6
        self.away = False
        self.closed = threading.Event()
        """A reasoning has let go of what it held."""

    def direct(self, questions: Sequence[Question]) -> list[list[Recommendation]]:
        self.batches.append(len(questions))
        self.begun.set()
        assert self.go.wait(60)
        if self.away:
            raise Unavailable("no answer from the SGLang server at http://10.0.0.7:30000")
        if any(question.history == ("i4", "i4") for question in questions):
            raise GreamError("this history cannot be answered")
        if any(question.history == ("i2", "i2") for question in questions):
            raise ModelFault("the model's logits are no numbers")
        if any(question.history == ("i3", "i3") for question in questions):
            raise RuntimeError("secret inside")
        return [
            [
                Recommendation(item, 0.5, TITLES.title(item))
                for item in TITLES.titles
                if item not in question.exclude and (question.among is None or item in question.among)
            ][: question.n]
            for question in questions
        ]

    def reason(self, question: Question) -> Generator[Piece | None, None, None]:
        if self.away:
            raise Unavailable("no answer from the SGLang server at http://10.0.0.7:30000")
        try:
            yield Text("<think>\nLiked ")
            yield Item("i0", "Velta")
            for _ in range(self.tokens):
                time.sleep(self.pause)
                yield None
            if question.history == ("i3",):
                raise RuntimeError("secret inside")
            ranked = self.direct([question])[0] if question.reasonings else []
            yield Answer(Item("i2", "Stamé Lu"), "exact", self.tokens, ranked=tuple(ranked))
        finally:
            self.closed.set()
