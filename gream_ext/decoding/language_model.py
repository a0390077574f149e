"""What decoding needs of a Hugging Face causal language model, whichever it is.

The output head is applied apart from the layers below it, so that a caller can score the
tokens that may follow and no others. What a model allows is found out once, by `probe`.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from gream_ext.decoding.continuation import Prompts, Shared

if TYPE_CHECKING:
    from gream_ext.decoding.shared_prompt import SharedPromptCache

LOGITS_AT_ONCE = {"cpu": 64}
"""Rows whose logits over the whole vocabulary stand in memory at once; on a GPU 1,024."""

_PROBE = ((1, 2, 3, 1, 2), (1, 2, 3, 2, 2), (3, 1, 3, 1, 3))
"""Three texts; `probe` takes the first two for continuations of one prompt."""


@dataclass(frozen=True)
class Traits:
    """What a model allows."""

    plain_head: bool = False
    """Its logits are what its head makes of its last hidden states, not scaled, not capped."""
    shares_prompts: bool = False
    """Rows that continue one prompt may attend to a single copy of its keys and values."""
    fused_attention: bool = False
    """… with torch's own attention kernels."""
    narrow_end: bool = False
    """Of its last layer's feed-forward network only the position that is read need be computed."""


class LanguageModel:
    """A causal language model as a pair of functions: tokens to hidden states, hidden states to logits.

    Hidden states are the last layer's, [rows, width], or the logits themselves where the head cannot be told apart.
    One thread at a time runs it. Without ``traits`` they are found out by `probe`.
    """

    def __init__(self, model: PreTrainedModel, traits: Traits | None = None):
        given: Any = model
        # LoRA layers stand inside the model they adapt.
        whole = given.get_base_model() if hasattr(given, "get_base_model") else given
        self.model: PreTrainedModel = whole
        self.head: Any = whole.get_output_embeddings()
        self.device = self.model.device
        self._lock = threading.RLock()
        self.graphs: dict[Any, Any] = {}
        """Searches captured as CUDA graphs, see `gream_ext.decoding.graphs`."""
        self.traits = traits or Traits()
        if traits is None:
            self.traits = probe(self)

    def run(
        self, shared_prompt: "SharedPromptCache | None" = None, read_at: Tensor | None = None, **inputs: Any
    ) -> tuple[Tensor, Any]:
        """Hidden states [batch, …] at one position of each row, and the cache, of one forward call of the model.

        The position is ``read_at``, int64 [batch], or the last.
        """
        whole: Any = self.model.base_model
        runs = whole if self.traits.plain_head else self.model
        with self._lock, ExitStack() as within:
            if read_at is not None and self.traits.narrow_end:
                within.enter_context(_computed_only_at(whole.layers[-1].mlp, read_at))
            if shared_prompt is not None:
                within.enter_context(shared_prompt.attending(self.model))
                inputs["shared_prompt"] = shared_prompt
            output = runs(**inputs)
        hidden = output.last_hidden_state if self.traits.plain_head else output.logits
        if read_at is None:
            return hidden[:, -1], output.past_key_values
        return hidden[torch.arange(len(hidden), device=hidden.device), read_at], output.past_key_values

    def logits(self, hidden: Tensor) -> Tensor:
        """float32 [rows, vocabulary]."""
        return (self.head(hidden) if self.traits.plain_head else hidden).float()

    def logits_of(self, hidden: Tensor, token_ids: Tensor) -> Tensor:
        """float32 [rows, tokens]: the logits of these tokens only."""
        if not self.traits.plain_head or type(self.head) is not torch.nn.Linear:
            return self.logits(hidden)[:, token_ids]
        bias = None if self.head.bias is None else self.head.bias[token_ids]
        return torch.nn.functional.linear(hidden, self.head.weight[token_ids], bias).float()

    def logits_and_total(self, hidden: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of these tokens, float32 [rows, tokens], and the logsumexp of all, float32 [rows, 1].

        Some rows at a time: all logits of twenty beams of each prompt would take more memory than everything else.
        """
        chosen, totals = [], []
        for part in hidden.split(LOGITS_AT_ONCE.get(hidden.device.type, 1024)):
            every = self.logits(part)
            chosen.append(every[:, token_ids])
            totals.append(every.logsumexp(-1, keepdim=True))
        return torch.cat(chosen), torch.cat(totals)


@contextmanager
def _computed_only_at(module: Any, places: Tensor) -> Iterator[None]:
    """Let a feed-forward network compute one position of each row, and add nothing elsewhere.

    In the last layer no key or value depends on what it gives.
    """
    rows, shapes = torch.arange(len(places), device=places.device), []

    def narrow(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        shapes.append(inputs[0].shape)
        return (inputs[0][rows, places][:, None], *inputs[1:])

    def spread(_: Any, inputs: Any, output: Tensor) -> Tensor:
        whole = output.new_zeros(shapes.pop())
        whole[rows, places] = output[:, 0]
        return whole

    with module.register_forward_pre_hook(narrow), module.register_forward_hook(spread):
        yield


@torch.inference_mode()
def probe(model: LanguageModel) -> Traits:
    """Try out what a model allows: a trait is kept only where the model then gives the logits that it gives alone."""
    texts = torch.tensor(_PROBE, device=model.device)
    expected = model.model(input_ids=texts).logits[:, 2:]
    traits = Traits(plain_head=_head_explains_logits(model, texts, expected))
    if not getattr(model.model, "_supports_attention_backend", False):
        return traits
    for fused, narrow in ((True, True), (False, True), (True, False), (False, False)):
        more = replace(traits, shares_prompts=True, fused_attention=fused, narrow_end=narrow)
        if _agrees(LanguageModel(model.model, more), expected):
            return more
    return traits


def _head_explains_logits(model: LanguageModel, texts: Tensor, expected: Tensor) -> bool:
    if model.head is None or model.model.base_model is model.model:
        return False
    hidden = getattr(model.model.base_model(input_ids=texts), "last_hidden_state", None)
    if hidden is None or hidden.shape[:2] != texts.shape:
        return False
    return _close(model.head(hidden[:, 2:]), expected)


def _agrees(model: LanguageModel, expected: Tensor) -> bool:
    """Whether rows that continue prompts of three tokens, padded and not, get the ``expected`` logits."""
    rows = torch.tensor([0, 0, 1], device=model.device)
    for longest in (16,) if model.device.type == "cpu" else (16, 3):
        try:
            shared = Shared(model, Prompts.of([_PROBE[0][:3], _PROBE[2][:3]], model.device, longest=longest), 2)
            steps = [shared.first[rows]]
            shared.select(rows)
            for place in (3, 4):
                steps.append(shared.advance(torch.tensor([text[place] for text in _PROBE], device=model.device)))
        except (AttributeError, KeyError, IndexError, NotImplementedError, RuntimeError, TypeError):
            # An architecture that keeps its memory in another form, or a device without that kernel.
            return False
        if not _close(model.logits(torch.stack(steps, dim=1)), expected):
            return False
    return True


def _close(ours: Tensor, theirs: Tensor) -> bool:
    scale = max(float(theirs.abs().max()), 1e-6)
    tolerance = 1e-4 if theirs.dtype == torch.float32 else 5e-2
    return float((ours.float() - theirs.float()).abs().max()) <= tolerance * scale
