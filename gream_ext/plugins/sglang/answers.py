"""Reasoning mode in SGLang: a structural tag of our own, token by token along the trie.

xgrammar's token-level tags say the same, but take 6–14 s to compile for 12,000 items, minutes for 100,000, and one
server can hold only one of them. Ours needs no compiling, so every request may have a sub-catalogue of its own.
SGLang keeps requests with a grammar off its overlap, so each mask is made after the token before it is known.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from sglang.srt.constrained.base_grammar_backend import BaseGrammarObject, InvalidGrammarObject
from sglang.srt.constrained.xgrammar_backend import XGrammarGrammar
from sglang.srt.plugins.hook_registry import HookRegistry, HookType

from gream_ext.decoding.faithful import FaithfulHistory, Limit, State
from gream_ext.decoding.restriction import Restrictions
from gream_ext.decoding.trie import NOWHERE, ROOT
from gream_ext.inference.engines.sglang_request import AnswerTag
from gream_ext.plugins.sglang.catalogue import Catalogue, sentence

logger = logging.getLogger(__name__)

TARGET = "sglang.srt.constrained.base_grammar_backend.BaseGrammarBackend.get_cached_or_future_value"
FREE = -2
"""Stands in place of a node before the answer begins; `ENDED` after it."""
ENDED = -3


class AnswerGrammar(BaseGrammarObject):
    """Free until the answer's beginning, then an identifier of a real item and the answer's end; that ends the text.

    Where the tag names a history, what is written of it keeps to it, see `gream_ext.decoding.faithful`.
    """

    def __init__(self, catalogue: Catalogue, tag: AnswerTag):
        super().__init__()
        self.catalogue, self.tag = catalogue, tag
        self._trie = catalogue.trie
        self._restrictions = Restrictions.of(self._trie, [tag.part])
        self._nodes = [FREE]
        self._history = None if tag.rewriting is None else FaithfulHistory.of(tag.rewriting, self._trie, tag.history)
        self._states = [State()]
        if tag.written is not None:
            node = ROOT
            for token in tag.written:
                node = self._step(node, token)
            self._nodes = [node if node != NOWHERE else FREE]

    def limit(self) -> Limit | None:
        """What may follow; None: anything."""
        node = self._nodes[-1]
        if node == FREE and self._history is not None:
            return self._history.limit(self._states[-1])
        return None if node in (FREE, ENDED) else Limit(None, self._allowed(node))

    def _allowed(self, node: int) -> list[int]:
        if self._trie.complete[node]:
            return [self.tag.end]
        trie = self._trie
        below = slice(int(trie.children[node]), int(trie.children[node + 1]))
        left = self._restrictions.left(torch.tensor(0), trie.begin[below], trie.end[below])
        return trie.tokens[below][left > 0].tolist()

    def accept_token(self, token: int) -> None:
        """Go on by one token; `ValueError` for one that leads to no item, which SGLang answers with an error."""
        node = self._nodes[-1]
        limit = self.limit() if node == FREE else None
        if node == FREE:
            after = ROOT if token == self.tag.begin else FREE
        elif node == ENDED:
            after = ENDED
        elif self._trie.complete[node]:
            after = ENDED if token == self.tag.end else NOWHERE
        else:
            after = self._step(node, token)
        if after == NOWHERE or (limit is not None and limit.forbids(token)):
            raise ValueError(f"gream_ext: token {token} leads to no item")
        self.current_token = token
        self._nodes.append(after)
        self._states.append(self._history.after(self._states[-1], token) if self._history else State())

    def rollback(self, k: int) -> None:
        """Take back the last ``k`` tokens."""
        del self._nodes[len(self._nodes) - k :], self._states[len(self._states) - k :]

    def is_terminated(self) -> bool:
        return self._nodes[-1] == ENDED

    def fill_vocab_mask(self, vocab_mask: torch.Tensor, idx: int) -> None:
        """Write row ``idx`` of a bit mask, int32 [rows, ⌈vocabulary / 32⌉]: one bit for each token that may follow."""
        row = vocab_mask[idx].numpy().view(np.uint32)
        try:
            limit = self.limit()
        except Exception as error:
            # No item can be named any more; the next token is then refused by `accept_token` and ends this request.
            logger.error("gream_ext: an answer failed", exc_info=error)
            limit = Limit(None, [self.tag.end])
        row[:] = 0 if limit is not None and limit.among is None else 0xFFFFFFFF
        if limit is not None:
            among, allowed = np.array(limit.among or (), dtype=np.int64), np.array(limit.allowed, dtype=np.int64)
            np.bitwise_and.at(row, among >> 5, ~(np.uint32(1) << (among & 31).astype(np.uint32)))
            np.bitwise_or.at(row, allowed >> 5, np.uint32(1) << (allowed & 31).astype(np.uint32))

    def allocate_vocab_mask(self, vocab_size: int, batch_size: int, device: Any) -> torch.Tensor:
        return XGrammarGrammar.allocate_vocab_mask(self, vocab_size, batch_size, device)

    @staticmethod
    def move_vocab_mask(vocab_mask: torch.Tensor, device: Any) -> torch.Tensor:
        return XGrammarGrammar.move_vocab_mask(vocab_mask, device)

    def apply_vocab_mask(self, logits: torch.Tensor, vocab_mask: torch.Tensor) -> None:
        XGrammarGrammar.apply_vocab_mask(self, logits, vocab_mask)

    def copy(self) -> "AnswerGrammar":
        return AnswerGrammar(self.catalogue, self.tag)

    def _step(self, node: int, token: int) -> int:
        return int(self._trie.step(torch.tensor([node]), torch.tensor([token]))[0])


def grammar(
    catalogue: Catalogue, original: Callable[..., Any], backend: Any, key: tuple[str, str], require_reasoning: bool
) -> tuple[Any, bool]:
    """Our grammar for our tag, made at once and never cached; for everything else what SGLang makes."""
    try:
        tag = AnswerTag.read(key[1]) if key[0] == "structural_tag" else None
        if tag is not None:
            catalogue.admit(tag.catalogue, tag.part)
            return AnswerGrammar(catalogue, tag), True
    except Exception as error:
        return InvalidGrammarObject(sentence(error)), True
    return original(backend, key, require_reasoning)


def hook(catalogue: Catalogue) -> None:
    """Register the hook; SGLang applies it once all plug-ins have been called."""
    HookRegistry.register(TARGET, partial(grammar, catalogue), HookType.AROUND)
