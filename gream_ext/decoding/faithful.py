"""The history that a response writes again, held to the real one.

Between its thinking and its answer a response writes the user's history again without the noise (section 4.2 of the
paper). A model that is free to invents items there. Here every list of identifiers that it writes at that place is a
sub-sequence of the real history: only items of it, in order. All other text stays free.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from gream_ext.decoding.processors import RowProcessor
from gream_ext.decoding.trie import ItemTrie
from gream_ext.identifiers import IDENTIFIER_TOKENS

THINKING, REWRITING, ANSWERING = range(3)


class State(NamedTuple):
    """Where a response stands."""

    phase: int = THINKING
    used: int = -1
    """The place in the history of the last item of this list."""
    written: tuple[int, ...] = ()
    """The identifier that is begun."""


@dataclass(frozen=True)
class Rewriting:
    """How the place is told, in token ids: after ``begin`` (``</think>``), up to ``end`` (``<answer>``).

    ``separators`` stand between the items of one list; ``identifiers`` are all tokens of which identifiers are made.
    """

    begin: int
    end: int
    separators: tuple[int, ...]
    identifiers: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "Rewriting | None":
        """As this tokenizer writes it; None where a marker is no token of its own, so that the place cannot be told."""
        markers = [tokenizer.encode(marker, add_special_tokens=False) for marker in ("</think>", "<answer>")]
        if any(len(ids) != 1 for ids in markers):
            return None
        separators = {token for text in (", ", ",", " ") for token in tokenizer.encode(text, add_special_tokens=False)}
        added = tokenizer.get_added_vocab()
        identifiers = sorted(token for text, token in added.items() if IDENTIFIER_TOKENS.fullmatch(text))
        return cls(markers[0][0], markers[1][0], tuple(sorted(separators)), tuple(identifiers))


class Limit(NamedTuple):
    """What the next token may be: of the tokens ``among`` (None: of all) only ``allowed``."""

    among: tuple[int, ...] | None
    allowed: list[int]

    def forbids(self, token: int) -> bool:
        return (self.among is None or token in self.among) and token not in self.allowed


@dataclass(frozen=True)
class FaithfulHistory:
    """A grammar for one response: ``history`` has the token ids of the user's items, oldest first."""

    rewriting: Rewriting
    history: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, rewriting: Rewriting, trie: ItemTrie, rows: Sequence[int]) -> "FaithfulHistory":
        """``rows`` of the item index, oldest first."""
        tokens = trie.identifiers(torch.tensor(list(rows), dtype=torch.int64, device=trie.device)).tolist()
        return cls(rewriting, tuple(tuple(token for token in row if token >= 0) for row in tokens))

    def after(self, state: State, token: int) -> State:
        """The state after one more token; a token that `limit` forbids leaves the list."""
        if state.phase != REWRITING:
            begins = state.phase == THINKING and token == self.rewriting.begin
            return State(REWRITING) if begins else state
        if token == self.rewriting.end:
            return State(ANSWERING)
        if not state.written and token not in self.rewriting.identifiers:
            return state if token in self.rewriting.separators else State(REWRITING)
        written = (*state.written, token)
        for place in range(state.used + 1, len(self.history)):
            if self.history[place] == written:
                return State(REWRITING, place)
        return State(REWRITING, state.used, written) if self._going_on(state.used, written) else State(REWRITING)

    def limit(self, state: State) -> Limit | None:
        """What may follow; None: anything."""
        if state.phase != REWRITING:
            return None
        among = None if state.written else self.rewriting.identifiers
        return Limit(among, self._going_on(state.used, state.written))

    def _going_on(self, used: int, written: tuple[int, ...]) -> list[int]:
        """The tokens after ``written`` of those items that stand later in the history."""
        length = len(written)
        return sorted({item[length] for item in self.history[used + 1 :] if item[:length] == written != item})


class HistoryProcessor(RowProcessor):
    """`FaithfulHistory` for the rows of one call of our sampler, which says what each row has drawn, token by token."""

    def __init__(self, histories: Sequence[FaithfulHistory | None]):
        self._histories = histories
        self._states: dict[int, State] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        limited = scores
        for place, row, token in self.last_tokens(input_ids):
            grammar = self._histories[row]
            if grammar is None:
                continue
            before = self._states.get(row)
            # At the first call the last token is the prompt's.
            state = self._states[row] = State() if before is None else grammar.after(before, token)
            if (limit := grammar.limit(state)) is None:
                continue
            limited = scores.clone() if limited is scores else limited
            limited[place, slice(None) if limit.among is None else list(limit.among)] = float("-inf")
            limited[place, limit.allowed] = scores[place, limit.allowed]
        return limited
