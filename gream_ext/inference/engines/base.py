"""What an engine does for the two modes, and how it says what it cannot do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gream_ext.decoding.checks import check_ranges
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.ranking import Ranking
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.errors import GreamError

Finish = Literal["answer", "end", "length"]
"""Why a sample ended: its answer was complete, the model ended its turn, or it was cut."""


@dataclass(frozen=True)
class Sampling:
    """How responses are sampled.

    By default ``temperature`` and ``top_p`` are those of the paper's evaluation (6.1.2) and ``n`` what its Pass@10
    needs; how long a response may be it does not say.
    """

    n: int = 10
    temperature: float = 0.7
    top_p: float = 0.9
    max_new_tokens: int = 1024
    constrained: bool = True
    """After ``<answer>`` only real items, then ``</answer>``."""
    faithful: bool = True
    """The history that a response writes again holds items of the user's history only, in its order. Needs
    ``constrained``."""


PAPER_SAMPLING = Sampling()


@dataclass(frozen=True)
class Sample:
    """One response. ``text`` leaves special tokens out, as verl's reward managers do."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Log-probability of each token at the sampling temperature, before top-p and constraints; empty where unknown."""
    text: str
    finish: Finish | None
    """None while the response still grows."""


class Engine(Protocol):
    """A model behind one small interface. Prompts are token ids, items are rows of the item index."""

    name: str
    tokenizer: Any
    seeds: bool
    """A sample depends on its prompt and its seed alone; otherwise a seed is refused."""

    def recommend(
        self,
        prompts: Sequence[Sequence[int]],
        beams: int,
        allowed: Sequence[SubCatalogue | None] | None = None,
        prior: Prior | None = None,
    ) -> list[Ranking]:
        """The ``beams`` likeliest items after each prompt; a request that cannot be answered fails alone."""
        ...

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        allowed: Sequence[SubCatalogue | None] | None = None,
        histories: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Sample]]:
        """``sampling.n`` responses to each prompt; ``seeds`` has one number a prompt, None draws fresh ones.

        ``histories`` are the items that each prompt shows, as rows of the item index; None: nothing is held to them.
        """
        ...

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        seed: int | None = None,
        allowed: SubCatalogue | None = None,
        history: Sequence[int] | None = None,
    ) -> Iterator[list[Sample]]:
        """``sampling.n`` responses after each further token; all are there, with their ``finish``, at the end.

        Before, the first is whole each time, and the others may lack their text or be left out.
        """
        ...


def check_sampling(sampling: Sampling, allowed: Sequence[SubCatalogue | None] | None) -> None:
    """`GreamError` for an option out of its range, and for a sub-catalogue without constrained answers."""
    if sampling.n < 1:
        raise GreamError(f"n must be at least 1, not {sampling.n}")
    check_ranges(sampling.temperature, sampling.top_p, sampling.max_new_tokens)
    if not sampling.constrained and any(part is not None for part in allowed or ()):
        raise GreamError("a sub-catalogue needs constrained answers: leave `constrained` on")
