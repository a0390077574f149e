"""The one thread that uses the model: direct requests in batches, and reasonings a token at a time between them."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field

from gream_ext.extras.serve.measures import Measures
from gream_ext.inference.engines.names import Unavailable
from gream_ext.inference.questions import Answer, Piece, Question, Recommendation, Recommender

Emit = Callable[[Piece | Exception], None]
"""Takes the pieces of a reasoning, on the model's thread; an exception is the end of it."""


class Busy(Exception):
    """As many requests wait as may wait."""


@dataclass(eq=False)
class Direct:
    question: Question
    deadline: float
    future: "Future[list[Recommendation]]" = field(default_factory=Future)


@dataclass(eq=False)
class Stream:
    """A reasoning under way; ``cancelled`` is set by whoever no longer listens."""

    question: Question
    deadline: float
    emit: Emit
    cancelled: bool = False
    pieces: Generator[Piece | None, None, None] | None = None

    def close(self) -> None:
        """Let go of what the reasoning holds: its keys and values, or its request to an engine elsewhere."""
        if self.pieces is not None:
            self.pieces.close()
            self.pieces = None


class ModelThread:
    """Owns a recommender from `start` to `stop`.

    Direct requests that wait together are computed together, ``max_batch`` at most; at most ``max_streams``
    reasonings run at once, each a token in turn, so that a long one keeps nobody waiting.
    """

    def __init__(
        self,
        recommender: Recommender,
        measures: Measures,
        max_batch: int = 32,
        max_streams: int = 8,
        max_waiting: int = 256,
    ):
        self.recommender, self.measures = recommender, measures
        self.max_batch, self.max_streams, self.max_waiting = max_batch, max_streams, max_waiting
        self._directs: deque[Direct] = deque()
        self._waiting: deque[Stream] = deque()
        self._streams: list[Stream] = []
        self._work = threading.Condition()
        self._stopped = False
        self._begun: float | None = None
        self.away = False
        """The engine could not be reached when it was last asked."""
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread; who still waits gets `Busy`."""
        with self._work:
            self._stopped = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join(10)
        for direct in self._directs:
            if direct.future.set_running_or_notify_cancel():
                direct.future.set_exception(Busy("the service stops"))
        for stream in (*self._waiting, *self._streams):
            stream.emit(Busy("the service stops"))

    @property
    def waiting(self) -> int:
        return len(self._directs) + len(self._waiting)

    @property
    def busy_seconds(self) -> float:
        """How long the step under way has taken: a batch of direct requests, or a token of a reasoning."""
        begun = self._begun
        return 0.0 if begun is None else time.monotonic() - begun

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def ask(self, question: Question, seconds: float) -> "Future[list[Recommendation]]":
        """Queue a direct request that is of no use after ``seconds``; `Busy` when too many wait."""
        direct = Direct(question, time.monotonic() + seconds)
        self._enqueue(self._directs, direct)
        return direct.future

    def reason(self, question: Question, seconds: float, emit: Emit) -> Stream:
        """Queue a reasoning that may take ``seconds``; `Busy` when too many wait."""
        stream = Stream(question, time.monotonic() + seconds, emit)
        self._enqueue(self._waiting, stream)
        return stream

    def _enqueue(self, queue: deque, entry: Direct | Stream) -> None:
        with self._work:
            if self._stopped or len(queue) >= self.max_waiting:
                raise Busy("too many requests wait")
            queue.append(entry)
            self._work.notify()

    def _run(self) -> None:
        while True:
            self._begun = None
            with self._work:
                while not (self._stopped or self._directs or self._waiting or self._streams):
                    self._work.wait()
                if self._stopped:
                    for stream in self._streams:
                        stream.close()
                    return
                batch = [self._directs.popleft() for _ in range(min(self.max_batch, len(self._directs)))]
                while self._waiting and len(self._streams) < self.max_streams:
                    self._streams.append(self._waiting.popleft())
            self._begun = time.monotonic()
            self._answer(batch)
            for stream in list(self._streams):
                self._begun = time.monotonic()
                if not self._advance(stream):
                    self._streams.remove(stream)
                    stream.close()

    def _answer(self, batch: list[Direct]) -> None:
        """Compute a batch. Who has left or waited too long costs nothing."""
        there = [direct for direct in batch if direct.future.set_running_or_notify_cancel()]
        now = time.monotonic()
        for direct in there:
            if direct.deadline < now:
                direct.future.set_exception(TimeoutError("no answer in time"))
        if batch := [direct for direct in there if direct.deadline >= now]:
            self.measures.batches.observe(len(batch))
            self._compute(batch)

    def _compute(self, batch: list[Direct]) -> None:
        """One bad question spoils only itself: after an error each is asked alone."""
        try:
            answers = self.recommender.direct([direct.question for direct in batch])
            self.away = False
        except Exception as error:
            self.away = away = isinstance(error, Unavailable)
            for direct in batch:
                if away or len(batch) == 1:
                    direct.future.set_exception(error)
                else:
                    self._compute([direct])
        else:
            for direct, answer in zip(batch, answers, strict=True):
                direct.future.set_result(answer)

    def _advance(self, stream: Stream) -> bool:
        """Compute one token of a reasoning; False when it has ended."""
        try:
            if stream.cancelled:
                self.measures.reasonings.labels("left").inc()
                return False
            if stream.deadline < time.monotonic():
                raise TimeoutError("the reasoning took too long")
            if stream.pieces is None:
                stream.pieces = self.recommender.reason(stream.question)
            piece = next(stream.pieces)
            if piece is not None:
                stream.emit(piece)
            if isinstance(piece, Answer):
                self.measures.tokens.inc(piece.tokens)
                self.measures.reasonings.labels("answer" if piece.item else "no answer").inc()
                return False
        except Exception as error:
            self.measures.reasonings.labels("late" if isinstance(error, TimeoutError) else "error").inc()
            stream.emit(error)
            return False
        return True
