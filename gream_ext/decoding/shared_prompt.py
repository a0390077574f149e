"""Attention of many rows to one copy of the prompt that they continue.

Twenty beams of one prompt, or ten samples, see the same keys and values up to the prompt's end.
Copying those for each row costs more than everything else in a short decoding; here all rows of
a prompt attend to them in one matrix product, and to their own few tokens apart.

It is an attention function of transformers' `AttentionInterface`: the model's code stays as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ATTENTION = "gream_shared_prompt"
"""The name under which transformers knows `attention`."""

ROOM = 16
"""Positions by which the rows' own keys and values grow: between growths nothing is copied."""


class _RowLayer(DynamicLayer):
    """The rows' own keys and values of one layer, [rows, heads, room, width], zero where nothing stands yet."""

    own_keys: Tensor
    own_values: Tensor

    def __init__(self, room: int = ROOM) -> None:
        super().__init__()
        self.filled = 0
        self.room = room

    def get_seq_length(self) -> int:
        return self.filled

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.own_keys, self.own_values = key_states[:, :, :0], value_states[:, :, :0]
            self.is_initialized = True
        if self.filled == self.own_keys.shape[2]:
            self.own_keys, self.own_values = (_longer(states, self.room) for states in (self.own_keys, self.own_values))
        self.own_keys[:, :, self.filled] = key_states[:, :, 0]
        self.own_values[:, :, self.filled] = value_states[:, :, 0]
        self.filled += 1
        return self.own_keys, self.own_values

    def select(self, rows: Tensor) -> None:
        if self.is_initialized:
            self.own_keys, self.own_values = self.own_keys[rows], self.own_values[rows]


def _longer(states: Tensor, room: int) -> Tensor:
    rows, heads, _, width = states.shape
    return torch.cat([states, states.new_zeros(rows, heads, room, width)], dim=2)


class SharedPromptCache(Cache):
    """Keys and values of prompts, one copy each, and of the rows that continue them.

    ``lengths`` int64 [prompts] counts the tokens of each prompt, ``prompt_of_row`` int64 [rows]
    says which prompt a row continues, ``steps`` how many tokens each row has so far. ``room`` is
    for how many more tokens a row makes room at once.
    """

    def __init__(self, lengths: Tensor, prompt_of_row: Tensor, room: int = ROOM):
        super().__init__(layers=[])
        self.room = room
        self.lengths = lengths
        self.prompt_of_row = prompt_of_row
        self.steps = 0
        self.prompt_keys: list[Tensor] = []
        self.prompt_values: list[Tensor] = []
        self._arrange()

    def add_prompts(self, begin: int, cache: Any) -> None:
        """Take over what a forward call over prompts ``begin``… left in ``cache``, padded on the right.

        ``NotImplementedError`` when a layer keeps anything but all keys and values.
        """
        if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
            raise NotImplementedError("this model keeps its memory in another form")
        layers: list[Any] = list(cache.layers)
        if not self.layers:
            self.layers = [_RowLayer(self.room) for _ in layers]
        count = layers[0].keys.shape[0]
        for number, layer in enumerate(layers):
            if begin == 0:
                self.prompt_keys.append(self._room_for(layer.keys))
                self.prompt_values.append(self._room_for(layer.values))
            longest = layer.keys.shape[2]
            self.prompt_keys[number][begin : begin + count, :, :longest] = layer.keys
            self.prompt_values[number][begin : begin + count, :, :longest] = layer.values

    def _room_for(self, states: Tensor) -> Tensor:
        _, heads, _, width = states.shape
        return states.new_zeros(len(self.lengths), heads, int(self.lengths.max()), width)

    def select(self, rows: Tensor) -> None:
        """Let the rows be these of the present ones; prompts that no row continues are dropped."""
        for layer in self.layers:
            layer.select(rows)  # type: ignore[union-attr]
        kept, self.prompt_of_row = self.prompt_of_row[rows].unique(return_inverse=True)
        if len(kept) < len(self.lengths):
            self.lengths = self.lengths[kept]
            longest = int(self.lengths.max())
            self.prompt_keys = [keys[kept, :, :longest] for keys in self.prompt_keys]
            self.prompt_values = [values[kept, :, :longest] for values in self.prompt_values]
        self._arrange()

    @contextmanager
    def attending(self, model: "PreTrainedModel") -> Iterator[None]:
        """Let ``model`` use `attention` within the block; its forward call needs ``shared_prompt`` then."""
        config = model.config
        usual = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = usual

    def _arrange(self) -> None:
        """Give each prompt as many slots as the one with the most rows has; an unused slot repeats row 0."""
        prompts, rows = len(self.lengths), len(self.prompt_of_row)
        counts = torch.bincount(self.prompt_of_row, minlength=prompts)
        order = self.prompt_of_row.argsort(stable=True)
        rank = torch.empty_like(order)
        first = counts.cumsum(0) - counts
        rank[order] = torch.arange(rows, device=order.device) - first.repeat_interleave(counts)
        self.width = int(counts.max())
        self.slot_of_row = self.prompt_of_row * self.width + rank
        self.row_of_slot = torch.zeros(prompts * self.width, dtype=torch.int64, device=order.device)
        self.row_of_slot[self.slot_of_row] = torch.arange(rows, device=order.device)
        longest = int(self.lengths.max())
        outside = torch.arange(longest, device=order.device) >= self.lengths[:, None]
        self.padding = outside[:, None, None] if bool(outside.any()) else None


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    *,
    shared_prompt: SharedPromptCache,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Softmax attention of one query a row to its prompt's keys and to its own.

    ``query`` [rows, heads, 1, width]; ``key``, ``value`` [rows, key heads, room, width], of which the
    first ``steps + 1`` positions count. Returns [rows, 1, heads, width].
    """
    rows, heads, _, width = query.shape
    key_heads = key.shape[1]
    prompt_key = shared_prompt.prompt_keys[module.layer_idx]
    prompt_value = shared_prompt.prompt_values[module.layer_idx]
    prompts, slots, group = len(prompt_key), shared_prompt.width, heads // key_heads

    query = (query * scaling).view(rows, key_heads, group, width)
    by_slot = query[shared_prompt.row_of_slot].view(prompts, slots, key_heads, group, width)
    by_slot = by_slot.transpose(1, 2).reshape(prompts, key_heads, slots * group, width)
    to_prompt = (by_slot @ prompt_key.transpose(2, 3)).float()
    if shared_prompt.padding is not None:
        to_prompt = to_prompt.masked_fill(shared_prompt.padding, float("-inf"))
    to_own = (query @ key.transpose(2, 3)).float()
    to_own[..., shared_prompt.steps + 1 :] = float("-inf")

    # Softmax over both parts, without laying them side by side.
    prompt_top = to_prompt.amax(-1, keepdim=True)
    to_prompt = (to_prompt - prompt_top).exp_()
    own_top = to_own.amax(-1, keepdim=True)
    to_own = (to_own - own_top).exp_()
    from_prompt = _by_row(to_prompt.to(prompt_value.dtype) @ prompt_value, shared_prompt, slots, group)
    prompt_top = _by_row(prompt_top, shared_prompt, slots, group)
    prompt_sum = _by_row(to_prompt.sum(-1, keepdim=True), shared_prompt, slots, group)
    top = torch.maximum(prompt_top, own_top)
    prompt_weight, own_weight = (prompt_top - top).exp(), (own_top - top).exp()
    total = prompt_sum * prompt_weight + to_own.sum(-1, keepdim=True) * own_weight
    output = (from_prompt * prompt_weight + (to_own.to(value.dtype) @ value) * own_weight) / total
    return output.to(value.dtype).view(rows, 1, heads, -1), None


def _by_row(by_slot: Tensor, shared_prompt: SharedPromptCache, slots: int, group: int) -> Tensor:
    """[prompts, key heads, slots × group, width] to [rows, key heads, group, width]."""
    prompts, key_heads, _, width = by_slot.shape
    by_slot = by_slot.view(prompts, key_heads, slots, group, width).transpose(1, 2)
    return by_slot.reshape(prompts * slots, key_heads, group, width)[shared_prompt.slot_of_row]


AttentionInterface.register(ATTENTION, attention)
