"""Rows of tokens that continue prompts: beams, or samples, several to a prompt.

A continuation is started with distinct prompts and with the prompt of each row, computes each
prompt once, and then goes forward one token a row at a time. `Shared` keeps one copy of a
prompt's keys and values for all of its rows and attends to it with all of them together;
`Copied` gives every row its own copy and uses the model's own attention. Both give the same
features; `start` takes the first where the model allows it.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from gream_ext.decoding.language_model import LanguageModel, padded
from gream_ext.decoding.shared_prompt import ROOM, SharedPromptCache

TOKENS_AT_ONCE = 16_384
"""Prompt tokens that one forward call takes; bounds the memory of the activations."""


class Continuation(Protocol):
    """``first`` [prompts, …] are the features after each prompt, before any row goes on."""

    first: Tensor

    def advance(self, tokens: Tensor) -> Tensor:
        """Append one token to each row (int64 [rows]); the features after it, [rows, …]."""

    def select(self, rows: Tensor) -> None:
        """Let the rows be these of the present ones (int64 [new rows]): reorder, repeat, drop."""


def start(
    model: LanguageModel, prompts: Sequence[Sequence[int]], prompt_of_row: Sequence[int], room: int = ROOM
) -> Continuation:
    """Compute ``prompts`` (token ids, none empty) and stand ready to continue them, by ``room`` tokens at first."""
    if model.shares_prompts:
        return Shared(model, prompts, prompt_of_row, room)
    return Copied(model, prompts, prompt_of_row)


class Shared:
    """A continuation whose rows attend to one copy of their prompt."""

    def __init__(
        self,
        model: LanguageModel,
        prompts: Sequence[Sequence[int]],
        prompt_of_row: Sequence[int],
        room: int = ROOM,
    ):
        self._model = model
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
        self._cache = SharedPromptCache(lengths, torch.tensor(prompt_of_row, device=model.device), room)
        self._lengths = lengths[self._cache.prompt_of_row]
        features = []
        # Padding stands after the tokens: causal attention needs no mask then, and takes its fast way.
        at_once = max(1, TOKENS_AT_ONCE // max(len(prompt) for prompt in prompts))
        for begin in range(0, len(prompts), at_once):
            part = slice(begin, begin + at_once)
            ids, _ = padded(prompts[part], fill=0, left=False)
            last = lengths[part] - 1
            after, cache = model.run(input_ids=ids.to(model.device), use_cache=True, read_at=last)
            features.append(after[torch.arange(len(after), device=model.device), last])
            self._cache.add_prompts(begin, cache)
        self.first = torch.cat(features)

    def advance(self, tokens: Tensor) -> Tensor:
        cache = self._cache
        position = (self._lengths + cache.steps)[:, None]
        features, _ = self._model.run(
            cache, input_ids=tokens[:, None], position_ids=position, past_key_values=cache, use_cache=True
        )
        cache.steps += 1
        return features[:, -1]

    def select(self, rows: Tensor) -> None:
        self._lengths = self._lengths[rows]
        self._cache.select(rows)


class Copied:
    """A continuation with the model's own attention; every row has its own keys and values."""

    def __init__(self, model: LanguageModel, prompts: Sequence[Sequence[int]], prompt_of_row: Sequence[int]):
        self._model = model
        ids, mask = padded(prompts, fill=0, left=True)
        self._mask = mask.to(model.device, torch.int64)
        position = (self._mask.cumsum(1) - 1).clamp(min=0)
        features, self._cache = model.run(
            input_ids=ids.to(model.device), attention_mask=self._mask, position_ids=position, use_cache=True
        )
        self.first = features[:, -1]
        self.select(torch.tensor(prompt_of_row, device=model.device))

    def advance(self, tokens: Tensor) -> Tensor:
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=1)
        features, self._cache = self._model.run(
            input_ids=tokens[:, None],
            attention_mask=self._mask,
            position_ids=self._mask.sum(1, keepdim=True) - 1,
            past_key_values=self._cache,
            use_cache=True,
        )
        return features[:, -1]

    def select(self, rows: Tensor) -> None:
        self._mask = self._mask[rows]
        self._cache.reorder_cache(rows)
