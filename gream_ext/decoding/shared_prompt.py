"""Attention of many rows to one copy of the prompt that they continue.

Twenty beams of one prompt, or ten samples, see the same keys and values up to the prompt's end.
Copying those for each row costs more than everything else in a short decoding; here all rows of
a prompt attend to them in one call, and to their own few tokens apart.

It is an attention function of transformers' `AttentionInterface`: the model's code stays as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from gream_ext.decoding.partial_attention import fused, merged, plain

ATTENTION = "gream_shared_prompt"
"""The name under which transformers knows `attention`."""

CAPACITY = 16
"""Positions by which the rows' own keys and values grow: between growths nothing is copied."""


class _RowLayer(DynamicLayer):
    """The rows' own keys and values of one layer, [rows, heads, capacity, width], zero where nothing stands yet."""

    own_keys: Tensor
    own_values: Tensor

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self.filled = 0
        self.capacity = capacity

    def get_seq_length(self) -> int:
        return self.filled

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.own_keys, self.own_values = key_states[:, :, :0], value_states[:, :, :0]
            self.is_initialized = True
        if self.filled == self.own_keys.shape[2]:
            self.own_keys, self.own_values = (
                torch.nn.functional.pad(states, (0, 0, 0, self.capacity)) for states in (self.own_keys, self.own_values)
            )
        self.own_keys[:, :, self.filled] = key_states[:, :, 0]
        self.own_values[:, :, self.filled] = value_states[:, :, 0]
        self.filled += 1
        return self.own_keys, self.own_values

    def select(self, rows: Tensor) -> None:
        if self.is_initialized:
            self.own_keys, self.own_values = self.own_keys[rows], self.own_values[rows]


class SharedPromptCache(Cache):
    """Keys and values of prompts, one copy each, and of the rows that continue them.

    ``lengths`` int64 [prompts] counts the tokens of each prompt, ``longest`` the most, ``padded`` says whether some
    prompt has fewer. At first there is one row a prompt. ``steps`` counts the tokens that each row has so far;
    ``capacity`` is for how many more tokens a row makes room at once.
    """

    def __init__(self, lengths: Tensor, longest: int, padded: bool, capacity: int = CAPACITY, fused: bool = True):
        super().__init__(layers=[])
        self.capacity = capacity
        self.lengths = lengths
        self.steps = 0
        self.fused = fused
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.prompt_of_row = torch.arange(len(lengths), device=lengths.device)
        self.width = 1
        """Slots of each prompt, as many as the prompt with the most rows needs."""
        self.row_of_slot: Tensor | None = None
        """int64 [prompts × width]; an unused slot repeats row 0. None: every prompt has ``width`` rows, in order."""
        self.slot_of_row: Tensor | None = None
        self._mask(longest, padded)

    def add_prompts(self, begin: int, cache: Any) -> None:
        """Take over what a forward call over prompts ``begin``… left in ``cache``, padded on the right.

        ``NotImplementedError`` when a layer keeps anything but all keys and values.
        """
        if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
            raise NotImplementedError("this model keeps its memory in another form")
        layers: list[Any] = list(cache.layers)
        if not self.layers:
            self.layers = [_RowLayer(self.capacity) for _ in layers]
        count, _, longest, _ = layers[0].keys.shape
        if (count, longest) == (len(self.lengths), self.longest):
            self.keys, self.values = [layer.keys for layer in layers], [layer.values for layer in layers]
            return
        if begin == 0:
            self.keys = [self._empty(layer.keys) for layer in layers]
            self.values = [self._empty(layer.values) for layer in layers]
        for number, layer in enumerate(layers):
            self.keys[number][begin : begin + count, :, :longest] = layer.keys
            self.values[number][begin : begin + count, :, :longest] = layer.values

    def _empty(self, states: Tensor) -> Tensor:
        _, heads, _, width = states.shape
        return states.new_zeros(len(self.lengths), heads, self.longest, width)

    def select(self, rows: Tensor, width: int | None = None) -> None:
        """Let the rows be these of the present ones (int64 [new rows]).

        With ``width`` they are so many of each prompt, prompt by prompt, and nothing is read back to the host.
        Otherwise any may come in any order, and prompts that no row continues are dropped.
        """
        for layer in self.layers:
            layer.select(rows)  # type: ignore[union-attr]
        if width is not None:
            self.width = width
            self.prompt_of_row = torch.arange(len(self.lengths), device=rows.device).repeat_interleave(width)
            return
        kept, self.prompt_of_row = self.prompt_of_row[rows].unique(return_inverse=True)
        if len(kept) < len(self.lengths):
            self.lengths = self.lengths[kept]
            longest = int(self.lengths.max())
            self.keys = [keys[kept, :, :longest] for keys in self.keys]
            self.values = [values[kept, :, :longest] for values in self.values]
            self._mask(longest, bool((self.lengths < longest).any()))
        self._arrange()

    def _mask(self, longest: int, padded: bool) -> None:
        self.longest = longest
        self.padding: Tensor | None = None
        """Bool [prompts, longest]: what stands after the tokens of a prompt. None: nothing does."""
        self.bias: Tensor | None = None
        if padded:
            self.padding = torch.arange(longest, device=self.lengths.device) >= self.lengths[:, None]

    def bias_for(self, states: Tensor) -> Tensor | None:
        """What attention adds to the scores of a prompt's keys, made once for all layers and steps."""
        if self.bias is None and self.padding is not None:
            bias = torch.zeros_like(self.padding, dtype=states.dtype).masked_fill_(self.padding, float("-inf"))
            self.bias = bias[:, None, None]
        return self.bias

    def _arrange(self) -> None:
        """Give each prompt as many slots as the one with the most rows has."""
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

    @contextmanager
    def attending(self, model: PreTrainedModel) -> Iterator[None]:
        """Let ``model`` use `attention` within the block; its forward call needs ``shared_prompt`` then."""
        config = model.config
        usual = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            yield
        finally:
            config._attn_implementation = usual

    def by_prompt(self, query: Tensor) -> Tensor:
        """[rows, key heads, group, width] to [prompts, key heads, slots × group, width]."""
        _, key_heads, group, width = query.shape
        by_slot = query if self.row_of_slot is None else query[self.row_of_slot]
        by_slot = by_slot.view(len(self.lengths), self.width, key_heads, group, width).transpose(1, 2)
        return by_slot.reshape(len(self.lengths), key_heads, self.width * group, width)

    def by_row(self, by_prompt: Tensor, group: int) -> Tensor:
        """Back from `by_prompt`."""
        prompts, key_heads, _, width = by_prompt.shape
        by_slot = by_prompt.reshape(prompts, key_heads, self.width, group, width).transpose(1, 2)
        by_slot = by_slot.reshape(prompts * self.width, key_heads, group, width)
        return by_slot if self.slot_of_row is None else by_slot[self.slot_of_row]


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

    ``query`` [rows, heads, 1, width]; ``key``, ``value`` [rows, key heads, capacity, width], of which the
    first ``steps + 1`` positions count. Returns [rows, 1, heads, width].
    """
    rows, heads, _, width = query.shape
    key_heads = key.shape[1]
    group, written = heads // key_heads, shared_prompt.steps + 1
    query = query.view(rows, key_heads, group, width)
    attend = fused if shared_prompt.fused else plain
    layer = module.layer_idx
    prompt = attend(
        shared_prompt.by_prompt(query),
        shared_prompt.keys[layer],
        shared_prompt.values[layer],
        shared_prompt.bias_for(query),
        scaling,
    )
    own = plain(query, key[:, :, :written], value[:, :, :written], None, scaling)
    output = merged((shared_prompt.by_row(prompt[0], group), shared_prompt.by_row(prompt[1], group)), own)
    return output.to(value.dtype).reshape(rows, 1, heads, -1), None


AttentionInterface.register(ATTENTION, attention)
