"""Responses that the members of a group are given: different real items, and the true answer."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gream_ext.decoding.distinct import distinct_items
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.processors import answer_tokens, single_token
from gream_ext.decoding.trie import ItemTrie
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.verl.rollout_options import Member, RolloutOptions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Prompt = tuple[int, ...]
Item = tuple[int, ...]


class Given(NamedTuple):
    """What one rollout is given; without ``tokens`` it is free."""

    tokens: tuple[int, ...] = ()
    markers: tuple[int, ...] = ()
    """What the rollout writes itself before."""
    anchor: bool = False


class GroupAnswers:
    """Which rollouts are given what, in groups of ``size``, by the recipes ``distinct`` and ``anchored``."""

    def __init__(self, options: RolloutOptions, tokenizer: "PreTrainedTokenizerBase", size: int):
        index = options.distinct
        self.trie = None if index is None else ItemTrie.from_index(ItemIndex.load(index), tokenizer)
        self.tokenizer = tokenizer
        self.size = size

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
        direct = [prompt for prompt, member in zip(prompts, members, strict=True) if member.direct]
        drawn = {}
        if self.trie is not None:
            drawn = self._distinct(self.trie, model, list(dict.fromkeys(direct)), temperature, draw)
        return [
            self._given(member, drawn.get(prompt) if member.direct else None)
            for prompt, member in zip(prompts, members, strict=True)
        ]

    def _given(self, member: Member, items: Sequence[Item] | None) -> Given:
        end = self.tokenizer.eos_token_id
        if items is not None:
            # A group that holds the true item by itself needs no anchor.
            if member.answer and member.answer not in items and member.number == self.size - 1:
                return Given((*member.answer, end), anchor=True)
            return Given((*items[member.number], end))
        if not member.answer or member.number > 0:
            return Given()
        if member.direct:
            return Given((*member.answer, end), anchor=True)
        begin, finish = answer_tokens(self.tokenizer)
        return Given((*member.answer, finish, end), (single_token(self.tokenizer, "</think>"), begin), anchor=True)

    def _distinct(
        self, trie: ItemTrie, model: LanguageModel, prompts: Sequence[Prompt], temperature: float, draw: object
    ) -> dict[Prompt, list[Item]]:
        seeds = [number_of((draw, prompt)) for prompt in prompts]
        rows = distinct_items(model, trie, prompts, self.size, temperature, seeds).flatten()
        items = [tuple(token for token in item if token >= 0) for item in trie.identifiers(rows).tolist()]
        return {prompt: items[at * self.size : (at + 1) * self.size] for at, prompt in enumerate(prompts)}


def number_of(about: object) -> int:
    """A seed, the same in every process."""
    return int.from_bytes(hashlib.sha256(repr(about).encode()).digest()[:8], "big")
