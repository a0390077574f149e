"""Responses that the members of a group are given: different real items, and the true answer."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gream_ext.decoding.distinct import distinct_items
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.processors import GivenAnswers, answer_tokens, single_token
from gream_ext.decoding.trie import ItemTrie
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.verl.members import Member

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Prompt = tuple[int, ...]


class Given(NamedTuple):
    """What one rollout is given; without ``tokens`` it is free."""

    tokens: tuple[int, ...] = ()
    markers: tuple[int, ...] = ()
    """What the rollout writes itself before."""
    anchor: bool = False


class GroupAnswers:
    """Which rollouts of a batch are given what, by the recipes ``distinct`` and ``anchored``."""

    def __init__(self, index: Path | None, tokenizer: "PreTrainedTokenizerBase"):
        self.trie = None if index is None else ItemTrie.from_index(ItemIndex.load(index), tokenizer)
        self.tokenizer = tokenizer

    def of(
        self,
        model: LanguageModel,
        prompts: Sequence[Prompt],
        members: Sequence[Member],
        temperature: float,
        draw: object,
    ) -> list[Given]:
        """For each rollout of the batch; ``draw`` says which of a prompt's draws it is, so that all members of a
        group are of one, whichever worker makes them.
        """
        wanted = list(dict.fromkeys(
            (prompt, member.of) for prompt, member in zip(prompts, members, strict=True) if self._draws_for(member)
        ))  # fmt: skip
        drawn = self._distinct(model, wanted, temperature, draw)
        return [
            self._given(member, drawn.get((prompt, member.of))) for prompt, member in zip(prompts, members, strict=True)
        ]

    def _draws_for(self, member: Member) -> bool:
        return self.trie is not None and member.direct

    def _given(self, member: Member, items: list[tuple[int, ...]] | None) -> Given:
        end = self.tokenizer.eos_token_id
        if items is not None:
            # A group that holds the true item by itself needs no anchor.
            if member.answer and member.answer not in items and member.number == member.of - 1:
                return Given((*member.answer, end), anchor=True)
            return Given((*items[member.number], end))
        if not member.answer or member.number > 0:
            return Given()
        if member.direct:
            return Given((*member.answer, end), anchor=True)
        begin, finish = answer_tokens(self.tokenizer)
        return Given((*member.answer, finish, end), (single_token(self.tokenizer, "</think>"), begin), anchor=True)

    def _distinct(
        self, model: LanguageModel, wanted: Sequence[tuple[Prompt, int]], temperature: float, draw: object
    ) -> dict[tuple[Prompt, int], list[tuple[int, ...]]]:
        found = {}
        for count in {count for _, count in wanted}:
            assert self.trie is not None
            prompts = [prompt for prompt, of in wanted if of == count]
            seeds = [number_of((draw, prompt)) for prompt in prompts]
            rows = distinct_items(model, self.trie, prompts, count, temperature, seeds)
            items = self.trie.identifiers(rows.flatten()).view(*rows.shape, -1).tolist()
            for prompt, group in zip(prompts, items, strict=True):
                found[prompt, count] = [tuple(token for token in item if token >= 0) for item in group]
        return found


def processor(given: Sequence[Given]) -> GivenAnswers:
    """The logits processor of our sampler that has rollouts say what they are given."""
    return GivenAnswers([one.tokens or None for one in given], [one.markers for one in given])


def number_of(about: object) -> int:
    """A seed, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(about).encode()).digest()[:8], "big")
