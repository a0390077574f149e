"""What a rollout is told about its group: which member it is, and the true answer where the recipe gives it one.

Loads neither torch nor verl, for requests pass through the rollout's server.
"""

from dataclasses import dataclass

OPTION = "gream_member"
"""A sampling parameter of ours, beside verl's."""
ANCHOR = "gream_anchor"
"""In a rollout's extra fields, where it was given the true answer: how many tokens of its own stand before the answer,
and the answer's log-probability."""


@dataclass(frozen=True)
class Member:
    """One rollout of a prompt's group."""

    number: int
    """Counted from 0."""
    of: int
    """Rollouts in the group."""
    direct: bool
    """Whether the response is the bare identifier."""
    answer: tuple[int, ...] = ()
    """The token ids of the true item; none where no member is given it."""


def anchor_mask(before: int, tokens: int) -> list[int]:
    """Which tokens of an anchor are trained: the answer given, and neither what stands before it nor the last token.

    What stands before is the policy's own and has no part in the answer's being right. The last is the end of the
    text; that it is left out is how the estimator knows an anchor.
    """
    return [0] * before + [1] * (tokens - before - 1) + [0]
