"""What decoding needs of a Hugging Face causal language model, whichever it is.

The output head is applied apart from the layers below it, so that a caller can score the
tokens that may follow and no others. Models whose logits are more than their head's output
(scaled, capped) are noticed and run whole.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Union, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from gream_ext.decoding.shared_prompt import SharedPromptCache

ROWS_OF_LOGITS = 64
"""Rows whose logits over the whole vocabulary stand in memory at once."""

_PROBE = ((1, 2, 3), (3, 1))


@dataclass
class _Traits:
    """What is known of a model, and the lock that lets one thread at a time run it."""

    plain_head: bool = False
    shares_prompts: bool = False
    lock: Any = field(default_factory=threading.RLock)


_traits: "WeakKeyDictionary[torch.nn.Module, _Traits]" = WeakKeyDictionary()


class LanguageModel:
    """A causal language model as a pair of functions: tokens to features, features to logits.

    Features are the last hidden states, [rows, width], or the logits themselves where the head
    cannot be told apart. ``shares_prompts`` says whether rows that continue one prompt can
    attend to a single copy of its keys and values; both are tried out once for each model.
    """

    def __init__(self, model: "PreTrainedModel"):
        given: Any = model
        # LoRA layers stand inside the model they adapt.
        whole = given.get_base_model() if hasattr(given, "peft_config") else given
        self.model: PreTrainedModel = whole
        self.head: Any = whole.get_output_embeddings()
        self.device = self.model.device
        known = _traits.get(self.model)
        self._traits = known or _Traits()
        if known is None:
            with torch.inference_mode():
                self._traits.plain_head = self._head_explains_logits()
                self._traits.shares_prompts = self._shared_attention_agrees()
                logits = self._probed_logits()
            weighed = bool(torch.isfinite(logits).all() and logits.any())
            # Weights that are not there yet, or broken, tell nothing for later.
            if weighed:
                _traits[self.model] = self._traits

    @classmethod
    def of(cls, model: Union["PreTrainedModel", "LanguageModel"]) -> "LanguageModel":
        return model if isinstance(model, cls) else cls(cast("PreTrainedModel", model))

    @property
    def plain_head(self) -> bool:
        return self._traits.plain_head

    @property
    def shares_prompts(self) -> bool:
        return self._traits.shares_prompts

    def run(
        self, shared_prompt: "SharedPromptCache | None" = None, read_at: Tensor | None = None, **inputs: Any
    ) -> tuple[Tensor, Any]:
        """Features [batch, positions, …] and the cache of one forward call of the model.

        With ``read_at``, int64 [batch], only the features at that position of each row are to be read: the others may
        be anything.
        """
        runs = self.model.base_model if self.plain_head else self.model
        with self._traits.lock, ExitStack() as within:
            if read_at is not None:
                within.enter_context(self._last_feed_forward_at(read_at))
            if shared_prompt is not None:
                within.enter_context(shared_prompt.attending(self.model))
                inputs["shared_prompt"] = shared_prompt
            output = runs(**inputs)
        return output.last_hidden_state if self.plain_head else output.logits, output.past_key_values

    @contextmanager
    def _last_feed_forward_at(self, places: Tensor) -> Iterator[None]:
        """Let the last layer's feed-forward network compute one position of each row, and add nothing elsewhere.

        No key or value depends on what it gives. Where the model has no such module it stays as it is.
        """
        layers = getattr(self.model.base_model, "layers", None)
        module = getattr(layers[-1], "mlp", None) if layers else None
        if module is None or "forward" in vars(module):  # somebody else has put something in its place
            yield
            return
        whole = module.forward

        def forward(hidden: Tensor, *more: Any, **options: Any) -> Any:
            rows = torch.arange(len(hidden), device=hidden.device)
            found = whole(hidden[rows, places][:, None], *more, **options)
            if not isinstance(found, Tensor):
                return whole(hidden, *more, **options)
            spread = torch.zeros_like(hidden)
            spread[rows, places] = found[:, 0]
            return spread

        module.forward = forward
        try:
            yield
        finally:
            del module.forward

    def logits(self, features: Tensor) -> Tensor:
        """float32 [rows, vocabulary]."""
        return (self.head(features) if self.plain_head else features).float()

    def logits_of(self, features: Tensor, token_ids: Tensor) -> Tensor:
        """float32 [rows, tokens]: the logits of these tokens only."""
        if not self.plain_head or type(self.head) is not torch.nn.Linear:
            return self.logits(features)[:, token_ids]
        bias = None if self.head.bias is None else self.head.bias[token_ids]
        return torch.nn.functional.linear(features, self.head.weight[token_ids], bias).float()

    def logits_and_total(self, features: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of these tokens, float32 [rows, tokens], and the logsumexp of all, float32 [rows, 1].

        Some rows at a time: all logits of twenty beams of each prompt would take more memory than everything else.
        """
        chosen, totals = [], []
        for part in features.split(ROWS_OF_LOGITS):
            every = self.logits(part)
            chosen.append(every[:, token_ids])
            totals.append(every.logsumexp(-1, keepdim=True))
        return torch.cat(chosen), torch.cat(totals)

    def _probe(self) -> Tensor:
        return torch.tensor([_PROBE[0]], device=self.device)

    def _probed_logits(self) -> Tensor:
        return cast(Tensor, self.model(input_ids=self._probe()).logits)

    def _head_explains_logits(self) -> bool:
        if self.head is None or self.model.base_model is self.model:
            return False
        expected = self._probed_logits()
        hidden = getattr(self.model.base_model(input_ids=self._probe()), "last_hidden_state", None)
        if hidden is None or hidden.shape[:2] != expected.shape[:2]:
            return False
        return _close(self.head(hidden), expected)

    def _shared_attention_agrees(self) -> bool:
        from gream_ext.decoding.continuation import Copied, Shared

        if not getattr(self.model, "_supports_attention_backend", False):
            return False
        copied = Copied(self, _PROBE, [0, 0, 1])
        try:
            shared = Shared(self, _PROBE, [0, 0, 1])
            for step in ([1, 2, 3], [2, 2, 1]):
                tokens = torch.tensor(step, device=self.device)
                if not _close(shared.advance(tokens), copied.advance(tokens)):
                    return False
        except (AttributeError, KeyError, NotImplementedError, TypeError):
            # An architecture that keeps its memory in another form.
            return False
        return _close(shared.first, copied.first)


def _close(ours: Tensor, theirs: Tensor) -> bool:
    scale = max(float(theirs.abs().max()), 1e-6)
    tolerance = 1e-4 if theirs.dtype == torch.float32 else 5e-2
    return float((ours.float() - theirs.float()).abs().max()) <= tolerance * scale


def padded(rows: Sequence[Sequence[int]], fill: int, left: bool) -> tuple[Tensor, Tensor]:
    """Token rows as int64 [rows, longest] and a bool mask of the same shape, True where a token is."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), fill, dtype=torch.int64)
    mask = torch.zeros((len(rows), longest), dtype=torch.bool)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[number, place] = torch.as_tensor(row, dtype=torch.int64)
        mask[number, place] = True
    return ids, mask
