"""Sampling many rows at once from a causal language model.

A loop of our own over the model's forward call: every prompt is computed once for all of its
samples, rows that have ended are dropped, and a step costs a fraction of one of transformers'
``generate``, which the tests hold it against.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from gream_ext.decoding.checks import check_prompts, check_ranges
from gream_ext.decoding.continuation import Prompts, start
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.rng import draw, logprobs_of, row_seeds

Processor = Callable[[Tensor, Tensor], Tensor]
"""``(input_ids, scores) -> scores`` as transformers' logits processors; rows are padded on the left.

Rows come and go. A processor that treats rows differently has ``at_rows(numbers)``, which returns
the processor for these rows of the call, in this order; it leaves the scores that it is given alone.
"""

ROWS_AT_ONCE = 512
_DROP_BELOW = 7 / 8
"""Ended rows are dropped when fewer than this share goes on: dropping copies what the others remember."""


class Step(NamedTuple):
    """One token drawn for one row of the call."""

    row: int
    token: int
    logprob: float
    ended: bool


@dataclass
class TokenSample:
    """What was sampled for a prompt: token ids, the end token included, and the log-probability of each."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False
    """False when the sample was cut at ``max_new_tokens``."""

    def add(self, step: Step, most: int = 0) -> bool:
        """Take one more token; whether that was the last of at most ``most``."""
        self.ids.append(step.token)
        self.logprobs.append(step.logprob)
        self.ended = step.ended
        return self.ended or len(self.ids) == most


def sample_tokens(
    model: PreTrainedModel | LanguageModel, prompts: Sequence[Sequence[int]], **options: Any
) -> list[TokenSample]:
    """One sample a prompt row; ``options`` are those of `sample_steps`."""
    samples = [TokenSample() for _ in prompts]
    for step in sample_steps(model, prompts, **options):
        samples[step.row].add(step)
    return samples


def sample_steps(
    model: PreTrainedModel | LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    temperature: float,
    top_p: float,
    max_new_tokens: int,
    eos_token_id: int | Sequence[int],
    pad_token_id: int,
    seed: int | Sequence[int] | None = None,
    logits_processors: Sequence[Processor] = (),
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Step]:
    """The tokens of one sample a prompt row, as they are drawn; equal prompts are computed once.

    ``logprob`` is ``log_softmax(logits / temperature)`` at the sampled token, before top-p and
    before any logits processor: what verl's actor computes for the same tokens. Temperature 0 takes
    the likeliest token and gives its log-probability at temperature 1.

    ``seed`` is one number for the call or one for each row; a row's sample depends on its prompt
    and its seed alone, not on the rows beside it. None draws a fresh one. ``GreamError`` for an
    empty prompt or an option out of range.
    """
    check_ranges(temperature, top_p, max_new_tokens)
    check_prompts(prompts)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(seed, int):
        seeds = row_seeds(seed, len(prompts))
    else:
        seeds = np.concatenate([np.zeros(0, np.uint64), *(row_seeds(each, 1) for each in seed)])
    model = model if isinstance(model, LanguageModel) else LanguageModel(model)
    ends = [eos_token_id] if isinstance(eos_token_id, int) else list(eos_token_id)
    # Equal prompts stand together, and prompts of about one length.
    order = sorted(range(len(prompts)), key=lambda row: (len(prompts[row]), tuple(prompts[row])))
    for begin in range(0, len(order), rows_at_once):
        numbers = order[begin : begin + rows_at_once]
        asked = [tuple(prompts[row]) for row in numbers]
        so_far = padded(asked, pad_token_id).to(model.device) if logits_processors else None
        batch = _Batch(model, asked, np.array(numbers), seeds[numbers], logits_processors, so_far)
        yield from batch.steps(temperature, top_p, max_new_tokens, ends)


@dataclass
class _Batch:
    """Rows that are sampled together. ``numbers`` are their places in the call."""

    model: LanguageModel
    prompts: Sequence[tuple[int, ...]]
    numbers: np.ndarray
    seeds: np.ndarray
    processors: Sequence[Processor]
    so_far: Tensor | None

    @torch.inference_mode()
    def steps(self, temperature: float, top_p: float, max_new_tokens: int, ends: Sequence[int]) -> Iterator[Step]:
        place = {prompt: place for place, prompt in enumerate(dict.fromkeys(self.prompts))}
        rows = torch.tensor([place[prompt] for prompt in self.prompts], device=self.model.device)
        continuation = start(self.model, Prompts.of(list(place), self.model.device))
        continuation.select(rows)
        hidden = continuation.first[rows]
        going_on = np.ones(len(self.prompts), dtype=bool)
        for step in range(max_new_tokens):
            tokens, logprobs = self._draw(hidden, temperature, top_p, step)
            drawn, drawn_logprobs = tokens.cpu().numpy(), logprobs.cpu().numpy()
            ended = np.isin(drawn, ends)
            for row in np.flatnonzero(going_on).tolist():
                yield Step(int(self.numbers[row]), int(drawn[row]), float(drawn_logprobs[row]), bool(ended[row]))
            going_on &= ~ended
            if not going_on.any() or step + 1 == max_new_tokens:
                return
            if going_on.mean() < _DROP_BELOW:
                kept = torch.from_numpy(np.flatnonzero(going_on)).to(tokens.device)
                continuation.select(kept)
                tokens = tokens[kept]
                self.so_far = None if self.so_far is None else self.so_far[kept]
                self.seeds, self.numbers = self.seeds[going_on], self.numbers[going_on]
                going_on = going_on[going_on]
            if self.so_far is not None:
                self.so_far = torch.cat([self.so_far, tokens[:, None]], dim=1)
            hidden = continuation.advance(tokens)

    def _draw(self, hidden: Tensor, temperature: float, top_p: float, step: int) -> tuple[Tensor, Tensor]:
        logits = self.model.logits(hidden)
        if self.so_far is None:
            return draw(logits, temperature, top_p, self.seeds, step)
        processed = logits
        for processor in self.processors:
            if hasattr(processor, "at_rows"):
                processed = processor.at_rows(self.numbers)(self.so_far, processed)
            else:
                processed = processor(self.so_far, processed.clone())
        if processed is logits:
            return draw(logits, temperature, top_p, self.seeds, step)
        tokens, logprobs = draw(processed, temperature, top_p, self.seeds, step)
        changed = torch.nonzero((processed != logits).any(-1))[:, 0]
        if len(changed):
            logprobs[changed] = logprobs_of(logits[changed], temperature, tokens[changed])
        return tokens, logprobs


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Token rows as int64 [rows, longest], ``fill`` on the left."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[fill] * (longest - len(row)) + list(row) for row in rows])
