"""Logits processors that let a model name real items only, for anyone's ``generate`` and for our sampler."""

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ROOT, ItemTrie
from gream_ext.errors import GreamError

ANSWER = ("<answer>", "</answer>")


class _Constraint(LogitsProcessor):
    """What both processors share: rows, their requests, and leaving only some tokens possible.

    ``parts`` has one sub-catalogue (or None) a request, and each request ``rows_per_request`` rows that
    stand together. One that holds nothing is an error here, before anything is generated.
    """

    def __init__(
        self, trie: ItemTrie, end_token_id: int, parts: Sequence[SubCatalogue | None] | None, rows_per_request: int
    ):
        self.trie = trie
        self.end_token_id = end_token_id
        self.rows_per_request = rows_per_request
        self._parts = list(parts) if parts is not None else []
        self._restrictions = Restrictions.of(trie, self._parts)
        if (empty := np.flatnonzero(self._restrictions.sizes == 0)).size:
            raise GreamError(f"the sub-catalogue of request {empty[0]} holds no item: allow at least one")

    def _on(self, device: torch.device) -> ItemTrie:
        """The trie where the scores are."""
        if self.trie.device != device:
            self.trie = self.trie.to(device)
            self._restrictions = Restrictions.of(self.trie, self._parts)
        return self.trie

    def _only(self, scores: Tensor, nodes: Tensor, rows: Tensor) -> Tensor:
        """``scores`` [rows, vocabulary] with nothing possible but what leads on to an item of the row's request.

        After a complete identifier and on no node at all that is the end token. Where an identifier has begun that no
        item of the request ends, nothing is possible.
        """
        trie = self.trie
        below, real = trie.children_of(nodes, max(trie.fanout))
        requests = (rows // self.rows_per_request)[:, None]
        allowed = real & (self._restrictions.left(requests, trie.begin[below], trie.end[below]) > 0)
        ends = torch.zeros_like(allowed)
        ends[:, 0] = trie.is_complete(nodes) | (nodes == NOWHERE)
        tokens = trie.tokens[below].long().masked_fill(~allowed, self.end_token_id)
        kept = scores.gather(1, tokens).masked_fill(~(allowed | ends), float("-inf"))
        return torch.full_like(scores, float("-inf")).scatter_reduce_(1, tokens, kept, "amax")


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
        super().__init__(trie, end_token_id, parts, rows_per_request)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        nodes = self._on(scores.device).walk(input_ids[:, self.prompt_length :][:, : self.trie.levels])
        return self._only(scores, nodes, torch.arange(len(scores), device=scores.device))


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
        super().__init__(trie, end_token_id, parts, rows_per_request)
        self.begin_token_id = begin_token_id
        self._rows: np.ndarray | None = None

    @classmethod
    def for_tokenizer(
        cls,
        trie: ItemTrie,
        tokenizer: PreTrainedTokenizerBase,
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
        recent = input_ids[:, -(self.trie.levels + 1) :]
        begun = recent == self.begin_token_id
        in_answer = begun.any(1).nonzero()[:, 0]
        if not len(in_answer):
            return scores
        trie = self._on(scores.device)
        recent, length = recent[in_answer], recent.shape[1]
        opened = length - 1 - begun[in_answer].flip(1).int().argmax(1)
        nodes = torch.full((len(recent),), ROOT, dtype=torch.int64, device=recent.device)
        for column in range(length):
            nodes = torch.where(column > opened, trie.step(nodes, recent[:, column]), nodes)
        in_answer, nodes = in_answer[nodes != NOWHERE], nodes[nodes != NOWHERE]
        if not len(in_answer):
            return scores
        rows = in_answer if self._rows is None else torch.from_numpy(self._rows).to(in_answer.device)[in_answer]
        return scores.index_copy(0, in_answer, self._only(scores[in_answer], nodes, rows))


class RowProcessor:
    """What treats the rows of one call of our sampler differently, by their numbers in the call."""

    _rows: np.ndarray | None = None

    def at_rows(self, rows: np.ndarray) -> Self:
        """The same for these rows of the call, in this order."""
        self._rows = rows
        return self

    def last_tokens(self, input_ids: Tensor) -> list[tuple[int, int, int]]:
        """Of each row of ``input_ids``: its place there, its number in the call, and its last token."""
        rows = range(len(input_ids)) if self._rows is None else self._rows.tolist()
        return list(zip(range(len(rows)), rows, input_ids[:, -1].tolist(), strict=True))


class GivenAnswers(RowProcessor):
    """Rows of one call of our sampler whose answer is given: the tokens stand fixed, what comes before them is free.

    ``answers`` has for each row of the call its tokens, the text's end among them; none for a row that is free. They
    stand at the response's beginning or, where the row has ``markers`` (``</think>``, ``<answer>``), after these have
    been written one after the other.
    """

    def __init__(self, answers: Sequence[Sequence[int]], markers: Sequence[Sequence[int]]):
        self._left = [list(answer) for answer in answers]
        self._markers = [list(before) for before in markers]
        self._begun: set[int] = set()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        given: list[tuple[int, int]] = []
        for place, row, token in self.last_tokens(input_ids):
            left, markers = self._left[row], self._markers[row]
            if not left:
                continue
            # At the first call the last token is the prompt's.
            if markers and row in self._begun and token == markers[0]:
                markers.pop(0)
            self._begun.add(row)
            if not markers:
                given.append((place, left.pop(0)))
        if not given:
            return scores
        limited = scores.clone()
        for place, token in given:
            limited[place] = float("-inf")
            limited[place, token] = 0.0
        return limited


def answer_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Token ids of ``<answer>`` and ``</answer>``; `GreamError` unless each is a token of its own."""
    begin, end = (single_token(tokenizer, token) for token in ANSWER)
    return begin, end


def single_token(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of a marker; `GreamError` unless it is a token of its own."""
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) != 1:
        raise GreamError(f"the tokenizer has no token {token}: make the model with `gream base-model`")
    return ids[0]
