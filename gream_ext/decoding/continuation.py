"""Rows of tokens that continue prompts: beams, or samples, several to a prompt.

A continuation is started with distinct prompts, computes each once, and goes forward one token a row at a time; at
first there is one row a prompt, and `select` repeats, reorders and drops rows. `Shared` keeps one copy of a prompt's
keys and values for all of its rows and attends to it with all of them together; `Copied` gives every row its own copy
and uses the model's own attention. Both give the same hidden states.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gream_ext.decoding.shared_prompt import CAPACITY, SharedPromptCache

if TYPE_CHECKING:
    from gream_ext.decoding.language_model import LanguageModel

TOKENS_AT_ONCE = 16_384
"""Prompt tokens that one forward call takes; bounds the memory of the activations."""


@dataclass(frozen=True)
class Prompts:
    """Prompts as one tensor: ``ids`` int64 [prompts, longest], padded on the right, ``lengths`` int64 [prompts]."""

    ids: Tensor
    lengths: Tensor
    padded: bool
    """Whether some prompt is shorter than ``ids`` is wide."""

    @classmethod
    def of(
        cls, prompts: Sequence[Sequence[int]], device: torch.device | str, count: int = 0, longest: int = 0
    ) -> "Prompts":
        """Token ids, none empty. At least ``count`` prompts and ``longest`` tokens: what is added is token 0."""
        lengths = [len(prompt) for prompt in prompts] + [1] * (count - len(prompts))
        longest = max(longest, *lengths)
        ids = torch.zeros(len(lengths), longest, dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.as_tensor(prompt, dtype=torch.int64)
        return cls(ids.to(device), torch.tensor(lengths, device=device), min(lengths) < longest)

    def __len__(self) -> int:
        return len(self.ids)


def start(model: "LanguageModel", prompts: Prompts, capacity: int = CAPACITY) -> "Shared | Copied":
    """Compute ``prompts`` and stand ready to continue them, by ``capacity`` tokens at first."""
    return Shared(model, prompts, capacity) if model.traits.shares_prompts else Copied(model, prompts)


class Shared:
    """A continuation whose rows attend to one copy of their prompt.

    ``first`` [prompts, …] are the hidden states after each prompt, before any row goes on.
    """

    def __init__(self, model: "LanguageModel", prompts: Prompts, capacity: int = CAPACITY):
        self._model = model
        count, longest = prompts.ids.shape
        self._cache = SharedPromptCache(
            prompts.lengths, longest, prompts.padded, capacity, model.traits.fused_attention
        )
        hidden = []
        # Padding stands after the tokens: causal attention needs no mask then, and takes its fast way.
        at_once = max(1, TOKENS_AT_ONCE // longest)
        for begin in range(0, count, at_once):
            last = prompts.lengths[begin : begin + at_once] - 1
            after, cache = model.run(input_ids=prompts.ids[begin : begin + at_once], use_cache=True, read_at=last)
            hidden.append(after)
            self._cache.add_prompts(begin, cache)
        self.first = hidden[0] if len(hidden) == 1 else torch.cat(hidden)

    def advance(self, tokens: Tensor) -> Tensor:
        """Append one token to each row (int64 [rows]); the hidden states after it, [rows, …]."""
        cache = self._cache
        position = (cache.lengths[cache.prompt_of_row] + cache.steps)[:, None]
        hidden, _ = self._model.run(
            cache, input_ids=tokens[:, None], position_ids=position, past_key_values=cache, use_cache=True
        )
        cache.steps += 1
        return hidden

    def select(self, rows: Tensor, width: int | None = None) -> None:
        """Let the rows be these of the present ones, see `SharedPromptCache.select`."""
        self._cache.select(rows, width)


class Copied:
    """A continuation with the model's own attention; every row has its own keys and values."""

    def __init__(self, model: "LanguageModel", prompts: Prompts):
        self._model = model
        longest = prompts.ids.shape[1]
        # The model's own attention wants the padding on the left.
        places = torch.arange(longest, device=prompts.ids.device) - (longest - prompts.lengths[:, None])
        self._mask = (places >= 0).to(torch.int64)
        self.first, self._cache = model.run(
            input_ids=prompts.ids.gather(1, places.clamp(min=0)),
            attention_mask=self._mask,
            position_ids=places.clamp(min=0),
            use_cache=True,
        )

    def advance(self, tokens: Tensor) -> Tensor:
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        hidden, self._cache = self._model.run(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )
        return hidden

    def select(self, rows: Tensor, width: int | None = None) -> None:
        self._mask = self._mask[rows]
        self._cache.reorder_cache(rows)
