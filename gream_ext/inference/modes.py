"""Direct and reasoning mode on items: histories of item ids in, items out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.corpus.prompts import Message, direct_messages, history_text, reason_messages
from gream_ext.decoding.processors import answer_tokens
from gream_ext.errors import GreamError
from gream_ext.identifiers import find_all
from gream_ext.inference.co_occurrence import LATEST, CoOccurrence
from gream_ext.inference.engines.base import PAPER_SAMPLING, Engine, Ranking, Sample, Sampling, SubCatalogue, require
from gream_ext.inference.questions import Recommendation
from gream_ext.response import DEFAULT_FORMAT
from gream_ext.rewards import compute_score, extract_identifier

if TYPE_CHECKING:
    from gream_ext.items.index import ItemIndex

ANSWERED, TRUNCATED, UNKNOWN_ITEM = "answered", "truncated", "unknown_item"
"""Statuses of a `Reasoning` beside those of `gream_ext.rewards.STATUSES`."""


@dataclass(frozen=True)
class Request:
    """What is asked: the items so far, oldest first, and which items may be recommended."""

    history: Sequence[str]
    only: Collection[str] | None = None
    """Item ids; None: the whole catalogue."""
    without: Collection[str] = ()
    exclude_seen: bool = False
    """Also leave out what stands in the history, all of it."""


@dataclass(frozen=True)
class RankedItems:
    """The answer of direct mode, best first. Fewer than asked where the catalogue left to the request is smaller."""

    items: tuple[Recommendation, ...]
    error: str | None = None
    """Why there is none: an unknown item in the history, or nothing allowed."""


@dataclass(frozen=True)
class Reasoning:
    """One answer of reasoning mode.

    ``item_id`` is a real item or None, and then ``status`` says why: `TRUNCATED`, `UNKNOWN_ITEM` or what
    `gream_ext.rewards.STATUSES` has for a malformed response.
    """

    text: str
    item_id: str | None
    status: str
    well_formed: bool
    finish: str | None
    tokens: int


@dataclass(frozen=True)
class Modes:
    """The two modes on one engine. A model is asked with the prompts that it was trained with."""

    engine: Engine
    index: "ItemIndex"
    prompts: PromptSettings = field(default_factory=PromptSettings)
    prior: CoOccurrence | None = None
    """What guides the beam of direct mode beside the model."""

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of chat messages, up to where the response begins."""
        ids = self.engine.tokenizer.apply_chat_template(
            list(messages), tokenize=True, add_generation_prompt=True, return_dict=False
        )
        return list(ids)

    def direct_prompt(self, history: Sequence[str]) -> list[int]:
        """`GreamError` when the history holds an unknown item."""
        text = history_text(self.index, history, self.prompts.direct_window)
        return self.prompt(direct_messages(text, words=self.prompts.words))

    def reason_prompt(self, history: Sequence[str]) -> list[int]:
        """`GreamError` when the history holds an unknown item."""
        text = history_text(self.index, history, self.prompts.reason_window)
        asked = reason_messages(text, system_prompt=self.prompts.system_prompt, words=self.prompts.words)
        return self.prompt(asked)

    def direct(self, requests: Sequence[Request], beams: int = 20) -> list[RankedItems]:
        """The ``beams`` likeliest items for each request; one that cannot be answered has an ``error``."""
        require(
            self.engine,
            "sub_catalogues",
            any(map(_is_restricted, requests)),
            "direct mode within a part of the catalogue",
        )
        answers: dict[int, RankedItems] = {}
        prompts, parts, latest = {}, {}, {}
        for number, request in enumerate(requests):
            try:
                prompts[number], parts[number], latest[number] = (
                    self.direct_prompt(request.history),
                    self.part(request),
                    self._rows(request.history[-LATEST:] if self.prior else ()),
                )
            except GreamError as error:
                answers[number] = RankedItems((), str(error))
        prior = self.prior.prior(list(latest.values())) if self.prior else None
        found = self.engine.recommend(list(prompts.values()), beams, list(parts.values()), prior)
        for number, ranking in zip(prompts, found, strict=True):
            answers[number] = self._ranked(ranking)
        return [answers[number] for number in range(len(requests))]

    def reason(
        self,
        requests: Sequence[Request],
        sampling: Sampling = PAPER_SAMPLING,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Reasoning]]:
        """``sampling.n`` reasonings for each request.

        `GreamError` for an unknown item in a history or a sub-catalogue that holds nothing.
        """
        _, _, sampled = self._sampled(requests, sampling, seeds)
        return [[self.reasoning(sample) for sample in samples] for samples in sampled]

    def stream(
        self, request: Request, sampling: Sampling = PAPER_SAMPLING, seed: int | None = None
    ) -> Iterator[Reasoning]:
        """One reasoning as it grows, token by token; ``finish`` is None until the last."""
        self._check_reasoning(sampling, [request])
        require(self.engine, "streams", True, "streaming")
        prompt, [shown] = self.reason_prompt(request.history), self._shown([request])
        for sample in self.engine.stream(prompt, sampling, seed, self.part(request), shown):
            yield self.reasoning(sample)

    def reason_and_rank(
        self,
        requests: Sequence[Request],
        sampling: Sampling = PAPER_SAMPLING,
        seeds: Sequence[int] | None = None,
        beams: int = 20,
    ) -> list[tuple[list[Reasoning], RankedItems]]:
        """``sampling.n`` reasonings for each request, and the items that they lead to together, best first.

        After each reasoning's ``<answer>`` a beam search of ``beams`` goes over the items that may be recommended; an
        item's score is the logarithm of its mean probability over the reasonings that came to an answer.
        """
        prompts, parts, sampled = self._sampled(requests, sampling, seeds)
        begin, _ = answer_tokens(self.engine.tokenizer)
        owners, begun = [], []
        for number, samples in enumerate(sampled):
            for ids in (list(sample.ids) for sample in samples if begin in sample.ids):
                owners.append(number)
                begun.append(prompts[number] + ids[: ids.index(begin) + 1])
        rankings: list[list[Ranking]] = [[] for _ in requests]
        found = self.engine.recommend(begun, beams, [parts[owner] for owner in owners]) if begun else []
        for owner, ranking in zip(owners, found, strict=True):
            rankings[owner].append(ranking)
        return [
            ([self.reasoning(sample) for sample in samples], self._ranked(Ranking.merged(own, beams)))
            for samples, own in zip(sampled, rankings, strict=True)
        ]

    def part(self, request: Request) -> SubCatalogue | None:
        """What may be recommended of the catalogue; `GreamError` for an unknown item, and when nothing is left."""
        only = None if request.only is None else SubCatalogue.only(self._rows(request.only))
        left_out = self._rows([*request.without, *(request.history if request.exclude_seen else ())])
        if not left_out:
            return only
        part = SubCatalogue.without(left_out).within(only, len(self.index))
        if len(part.rows) == (len(self.index) if part.excludes else 0):
            raise GreamError("nothing is left to recommend: all items that may be are excluded or in the history")
        return part

    def reasoning(self, sample: Sample) -> Reasoning:
        """What a response says."""
        identifier = extract_identifier(sample.text)
        item = None if identifier is None else self.index.item(identifier)
        if item is not None:
            status = ANSWERED
        elif identifier is not None:
            status = UNKNOWN_ITEM
        elif sample.finish == "length":
            status = TRUNCATED
        else:
            status = compute_score("gream", sample.text, self.index.text(self.index.item_ids[0]))["status"]
        return Reasoning(sample.text, item, status, item is not None, sample.finish, len(sample.ids))

    def _sampled(
        self, requests: Sequence[Request], sampling: Sampling, seeds: Sequence[int] | None
    ) -> tuple[list[list[int]], list[SubCatalogue | None], list[list[Sample]]]:
        """The prompt, the sub-catalogue and the samples of each request."""
        self._check_reasoning(sampling, requests)
        prompts = [self.reason_prompt(request.history) for request in requests]
        parts = [self.part(request) for request in requests]
        return prompts, parts, self.engine.sample(prompts, sampling, seeds, parts, self._shown(requests))

    def _shown(self, requests: Sequence[Request]) -> list[list[int]]:
        """The items that each reasoning prompt shows, as rows of the item index."""
        return [self._rows(request.history[-self.prompts.reason_window :]) for request in requests]

    def _ranked(self, ranking: Ranking) -> RankedItems:
        scored = zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)
        return RankedItems(tuple(Recommendation(self._real_item(row), score) for row, score in scored), ranking.error)

    def _real_item(self, row: int) -> str:
        if not 0 <= row < len(self.index):
            raise RuntimeError(f"the {self.engine.name} engine recommended row {row}, which is no item")
        return self.index.item_ids[row]

    def _rows(self, item_ids: Collection[str]) -> list[int]:
        for item in item_ids:
            self.index.identifier(item)
        return [self.index.position[item] for item in item_ids]

    def _check_reasoning(self, sampling: Sampling, requests: Sequence[Request]) -> None:
        require(self.engine, "constrained_answers", sampling.constrained, "constrained answers")
        require(
            self.engine,
            "answer_sub_catalogues",
            any(map(_is_restricted, requests)),
            "reasoning mode within a part of the catalogue",
        )


def _is_restricted(request: Request) -> bool:
    return request.only is not None or bool(request.without) or request.exclude_seen


def votes(reasonings: Sequence[Reasoning]) -> list[Recommendation]:
    """The distinct items of some reasonings, the most frequent first, with their share of all reasonings.

    Items named equally often stand in the order in which they were first named.
    """
    named = [one.item_id for one in reasonings if one.item_id is not None]
    order = sorted(dict.fromkeys(named), key=lambda item: (-named.count(item), named.index(item)))
    return [Recommendation(item, named.count(item) / len(reasonings)) for item in order]


def written_history(index: "ItemIndex", text: str) -> list[str | None]:
    """The items that a response names between its thinking and its answer, in order; None for what is no item.

    Beside the user's history they say how faithful it was. An identifier that was cut short is left out.
    """
    _, _, after = text.rpartition(DEFAULT_FORMAT.reasoning_end)
    written, answer, _ = after.partition(DEFAULT_FORMAT.answer_begin)
    named = [index.item(identifier) for identifier in find_all(written)]
    return named if answer or named[-1:] != [None] else named[:-1]
