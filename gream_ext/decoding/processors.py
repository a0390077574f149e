"""Logits processors that let a model name real items only, for anyone's ``generate`` and for our sampler."""

from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie
from gream_ext.errors import GreamError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ANSWER = ("<answer>", "</answer>")


class _Constraint(LogitsProcessor):
    """What both processors share: rows, their requests, and leaving only some tokens possible.

    ``parts`` has one sub-catalogue (or None) a request, and each request ``rows_per_request`` rows that
    stand together. One that holds nothing is an error here, before anything is generated.
    """

    def __init__(self, trie: ItemTrie, parts: Sequence[SubCatalogue | None] | None, rows_per_request: int):
        self.trie = trie
        self.rows_per_request = rows_per_request
        self._restrictions = Restrictions(trie, parts) if parts is not None else None
        if self._restrictions is not None and (empty := np.flatnonzero(self._restrictions.sizes() == 0)).size:
            raise GreamError(f"the sub-catalogue of request {empty[0]} holds no item: allow at least one")

    def _follow(self, nodes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of ``nodes`` and the token, for every token that leads on to an item of the row's request."""
        owner, below = self.trie.below(nodes)
        if self._restrictions is not None:
            requests = rows[owner] // self.rows_per_request
            kept = self._restrictions.left(requests, self.trie.begin[below], self.trie.end[below]) > 0
            owner, below = owner[kept], below[kept]
        return owner, self.trie.tokens[below]


def _only(scores: Tensor, constrained: np.ndarray, rows: np.ndarray, tokens: np.ndarray) -> Tensor:
    """``scores`` with, in the ``constrained`` rows, nothing possible but ``tokens`` in ``rows``."""
    device = scores.device
    at = (torch.from_numpy(rows).to(device), torch.from_numpy(tokens).to(device))
    kept = scores[at]
    if len(constrained) == len(scores):
        scores = torch.full_like(scores, float("-inf"))
    else:
        scores = scores.clone()
        scores[torch.from_numpy(constrained).to(device)] = float("-inf")
    scores[at] = kept
    return scores


class ItemProcessor(_Constraint):
    """From the prompt's end on an identifier of a real item, then ``end_token_id`` for ever.

    For ``generate``: ``logits_processor=LogitsProcessorList([ItemProcessor(trie, ids.shape[1], eos)])``.
    A row that stands on no identifier (``generate`` keeps such beams at minus infinity) may only end.
    """

    def __init__(
        self,
        trie: ItemTrie,
        prompt_length: int,
        end_token_id: int,
        parts: Sequence[SubCatalogue | None] | None = None,
        rows_per_request: int = 1,
    ):
        super().__init__(trie, parts, rows_per_request)
        self.prompt_length = prompt_length
        self.end_token_id = end_token_id

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        written = input_ids[:, self.prompt_length :][:, : self.trie.levels + 1].cpu().numpy()
        nodes = np.full(len(input_ids), ROOT, dtype=np.int64)
        for column in written.T:
            nodes = self.trie.step(nodes, column)
        on = np.flatnonzero(nodes != NOWHERE)
        owner, tokens = self._follow(nodes[on], on)
        rows = on[owner]
        ends = np.setdiff1d(np.arange(len(input_ids)), rows)
        rows, tokens = np.append(rows, ends), np.append(tokens, np.full(len(ends), self.end_token_id))
        return _only(scores, np.arange(len(input_ids)), rows, tokens)


class AnswerProcessor(_Constraint):
    """Free until the answer's beginning, then an identifier of a real item and the answer's end.

    What follows the end is free again. Tokens after an ``<answer>`` in the prompt (a system message
    that explains the format) are not taken for an answer unless they are the beginning of one.
    """

    def __init__(
        self,
        trie: ItemTrie,
        begin_token_id: int,
        end_token_id: int,
        parts: Sequence[SubCatalogue | None] | None = None,
        rows_per_request: int = 1,
    ):
        super().__init__(trie, parts, rows_per_request)
        self.begin_token_id = begin_token_id
        self.end_token_id = end_token_id
        self._rows: np.ndarray | None = None

    @classmethod
    def for_tokenizer(
        cls,
        trie: ItemTrie,
        tokenizer: "PreTrainedTokenizerBase",
        parts: Sequence[SubCatalogue | None] | None = None,
        rows_per_request: int = 1,
    ) -> "AnswerProcessor":
        """With the tokens of ``<answer>`` and ``</answer>``."""
        begin, end = answer_tokens(tokenizer)
        return cls(trie, begin, end, parts, rows_per_request)

    def at_rows(self, rows: np.ndarray) -> "AnswerProcessor":
        """The same for some rows of the call only."""
        some = copy(self)
        some._rows = np.asarray(rows)
        return some

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        recent = input_ids[:, -(self.trie.levels + 1) :].cpu().numpy()
        begun = recent == self.begin_token_id
        in_answer = np.flatnonzero(begun.any(1))
        if not len(in_answer):
            return scores
        recent = recent[in_answer]
        length = recent.shape[1]
        opened = length - 1 - begun[in_answer][:, ::-1].argmax(1)
        nodes = np.full(len(recent), ROOT, dtype=np.int64)
        for column in range(length):
            nodes = np.where(column > opened, self.trie.step(nodes, recent[:, column]), nodes)
        in_answer, nodes = in_answer[nodes != NOWHERE], nodes[nodes != NOWHERE]
        if not len(in_answer):
            return scores
        numbers = in_answer if self._rows is None else self._rows[in_answer]
        owner, tokens = self._follow(nodes, numbers)
        complete = in_answer[self.trie.complete[nodes]]
        rows = np.append(in_answer[owner], complete)
        tokens = np.append(tokens, np.full(len(complete), self.end_token_id))
        return _only(scores, in_answer, rows, tokens)


def answer_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[int, int]:
    """Token ids of ``<answer>`` and ``</answer>``; `GreamError` unless each is a token of its own."""
    found = [tokenizer.encode(token, add_special_tokens=False) for token in ANSWER]
    for token, ids in zip(ANSWER, found, strict=True):
        if len(ids) != 1:
            raise GreamError(f"the tokenizer has no token {token}: make the model with `gream base-model`")
    return found[0][0], found[1][0]
