"""Drawing tokens from logits: temperature, top-p, and random numbers that belong to a row.

The numbers that decide a row's tokens depend on the row's own seed and on the step, and on
nothing else: not on which rows stand beside it, nor on how many. Top-p is exact without sorting
the vocabulary: a token drawn from the whole distribution is kept when it lies in the nucleus and
drawn again otherwise, which gives the distribution that top-p renormalises.
"""

import numpy as np
import torch
from torch import Tensor

from gream_ext.decoding.checks import check_numbers

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_ATTEMPTS = np.uint64(1 << 20)


def row_seeds(seed: int, rows: int) -> np.ndarray:
    """A seed for each row of a call, uint64 [rows]: row ``r`` of seed ``s`` is the same however many rows there are."""
    begin = _mix(np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64))
    return _mix(begin + np.arange(rows, dtype=np.uint64) * _GAMMA)


def uniforms(seeds: np.ndarray, step: int, attempt: int = 0) -> np.ndarray:
    """float64 [rows] in [0, 1): the number of each seed (uint64 [rows]) for a step, and for a renewed draw at it.

    SplitMix64 (Steele, Lea and Flood 2014), which is made to be asked for its n-th number.
    """
    index = np.uint64(step) * _ATTEMPTS + np.uint64(attempt)
    with np.errstate(over="ignore"):
        mixed = _mix(seeds + (index + np.uint64(1)) * _GAMMA)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def draw(logits: Tensor, temperature: float, top_p: float, seeds: np.ndarray, step: int) -> tuple[Tensor, Tensor]:
    """One token a row, and its log-probability under ``softmax(logits / temperature)``.

    ``logits`` float32 [rows, vocabulary]; ``seeds`` uint64 [rows]. The log-probability is that of
    the whole distribution, not of the nucleus. Temperature 0 takes the likeliest token, with
    its log-probability at temperature 1. Returns int64 [rows] and float32 [rows]. `ModelFault`
    where the logits are no numbers.
    """
    probabilities = torch.softmax(_warm(logits, temperature), dim=-1)
    check_numbers(bool(torch.isfinite(probabilities[:, 0]).all()))
    tokens = logits.argmax(-1) if temperature == 0 else _draw_from(probabilities, top_p, seeds, step)
    return tokens, probabilities.gather(1, tokens[:, None])[:, 0].log()


def logprobs_of(logits: Tensor, temperature: float, tokens: Tensor) -> Tensor:
    """``log_softmax(logits / temperature)`` at ``tokens`` (int64 [rows]): float32 [rows]."""
    return torch.log_softmax(_warm(logits, temperature), dim=-1).gather(1, tokens[:, None])[:, 0]


def _warm(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature in (0, 1) else logits / temperature


def _draw_from(probabilities: Tensor, top_p: float, seeds: np.ndarray, step: int) -> Tensor:
    cumulative = probabilities.cumsum(-1)
    tokens = _invert(cumulative, uniforms(seeds, step))
    outside = torch.nonzero(~_in_nucleus(probabilities, tokens, top_p))[:, 0]
    attempt = 0
    # At least the share top_p of all draws is kept, so this ends soon.
    while len(outside):
        attempt += 1
        redrawn = _invert(cumulative[outside], uniforms(seeds[outside.cpu().numpy()], step, attempt))
        tokens[outside] = redrawn
        outside = outside[~_in_nucleus(probabilities[outside], redrawn, top_p)]
    return tokens


def _invert(cumulative: Tensor, uniform: np.ndarray) -> Tensor:
    """The first token at which the cumulative probability exceeds ``uniform`` times the total."""
    total = cumulative[:, -1:]
    aim = torch.from_numpy(uniform.astype(np.float32)).to(cumulative.device)[:, None] * total
    aim = torch.minimum(aim, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, aim, right=True)[:, 0]


def _in_nucleus(probabilities: Tensor, tokens: Tensor, top_p: float) -> Tensor:
    """Whether the tokens more probable than this one have less than ``top_p`` together: bool [rows].

    A token of no probability is outside at any ``top_p``: rounded sums, as a GPU's, may rise where it stands.
    """
    own = probabilities.gather(1, tokens[:, None])
    if top_p >= 1.0:
        return own[:, 0] > 0
    return (probabilities * (probabilities > own)).sum(-1) < top_p
