"""Direct and reasoning mode on items: histories of item ids in, items out."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.corpus.prompts import Message, direct_messages, history_text, reason_messages
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.ranking import Ranking
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.errors import GreamError
from gream_ext.identifiers import find_all
from gream_ext.inference.co_occurrence import CoOccurrence
from gream_ext.inference.engines.base import PAPER_SAMPLING, Engine, Sample, Sampling
from gream_ext.inference.questions import Question, Recommendation
from gream_ext.items.index import ItemIndex
from gream_ext.response import DEFAULT_FORMAT
from gream_ext.rewards import compute_score, extract_identifier

ANSWERED, TRUNCATED, UNKNOWN_ITEM = "answered", "truncated", "unknown_item"
"""Statuses of a `Reasoning` beside those of `gream_ext.rewards.STATUSES`."""


@dataclass(frozen=True)
class Prepared:
    """Questions as an engine takes them; `Modes.prepare` makes them on any thread, while the model answers others."""

    prompts: list[list[int]]
    parts: list[SubCatalogue | None]
    histories: list[list[int]]
    """Rows of the item index, oldest first."""
    prior: Prior | None = None


@dataclass(frozen=True)
class Reasoning:
    """One answer of reasoning mode.

    ``item_id`` is a real item or None, and then ``status`` says why: `TRUNCATED`, `UNKNOWN_ITEM` or what
    `gream_ext.rewards.STATUSES` has for a malformed response.
    """

    text: str
    item_id: str | None
    status: str
    finish: str | None
    tokens: int


@dataclass(frozen=True)
class Modes:
    """The two modes on one engine. A model is asked with the prompts that it was trained with."""

    engine: Engine
    index: ItemIndex
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

    def prepare(self, questions: Sequence[Question], mode: Literal["direct", "reason"]) -> Prepared:
        """`GreamError` for an unknown item, and where nothing is left that may be recommended."""
        write = self.direct_prompt if mode == "direct" else self.reason_prompt
        histories = [self._rows(question.history) for question in questions]
        return Prepared(
            [write(question.history) for question in questions],
            [self.part(question) for question in questions],
            histories,
            self.prior.prior(histories) if self.prior and mode == "direct" else None,
        )

    def direct(self, questions: Sequence[Question] | Prepared, beams: int = 20) -> list[list[Recommendation]]:
        """The ``beams`` likeliest items for each question, best first; fewer where fewer may be recommended.

        `GreamError` as in `prepare`, and when the engine cannot answer one of them.
        """
        asked = questions if isinstance(questions, Prepared) else self.prepare(questions, "direct")
        return [self._ranked(one) for one in self.engine.recommend(asked.prompts, beams, asked.parts, asked.prior)]

    def reason(
        self,
        questions: Sequence[Question] | Prepared,
        sampling: Sampling = PAPER_SAMPLING,
        seeds: Sequence[int] | None = None,
    ) -> list[list[Reasoning]]:
        """``sampling.n`` reasonings for each question; `GreamError` as in `prepare`."""
        _, sampled = self._sampled(questions, sampling, seeds)
        return [[self.reasoning(sample) for sample in samples] for samples in sampled]

    def reason_and_rank(
        self,
        questions: Sequence[Question] | Prepared,
        sampling: Sampling = PAPER_SAMPLING,
        seeds: Sequence[int] | None = None,
        beams: int = 20,
    ) -> list[tuple[list[Reasoning], list[Recommendation]]]:
        """``sampling.n`` reasonings for each question, and the items that they lead to together, best first.

        After each reasoning's ``<answer>`` a beam search of ``beams`` goes over the items that may be recommended; an
        item's score is the logarithm of its mean probability over the reasonings that came to an answer.
        """
        asked, sampled = self._sampled(questions, sampling, seeds)
        ranked = self._rank(asked, sampled, beams)
        return [([self.reasoning(one) for one in own], best) for own, best in zip(sampled, ranked, strict=True)]

    def stream(
        self, question: Question, sampling: Sampling = PAPER_SAMPLING, seed: int | None = None, beams: int = 0
    ) -> Iterator[Reasoning | list[Recommendation]]:
        """One reasoning as it grows, token by token; ``finish`` is None until its end.

        With ``beams`` as many more as ``sampling.n`` says grow beside it, and last comes what `reason_and_rank` ranks.
        """
        asked = self.prepare([question], "reason")
        [prompt], [part], [shown] = asked.prompts, asked.parts, self._shown(asked)
        samples: list[Sample] = []
        sampling = sampling if beams else replace(sampling, n=1)
        for samples in self.engine.stream(prompt, sampling, seed, part, shown):
            yield self.reasoning(samples[0])
        if beams:
            yield self._rank(asked, [samples], beams)[0]

    def part(self, question: Question) -> SubCatalogue | None:
        """What may be recommended of the catalogue; `GreamError` for an unknown item, and when nothing is left."""
        only = None if question.among is None else SubCatalogue.only(self._rows(question.among))
        if not question.exclude:
            return only
        part = SubCatalogue.without(self._rows(question.exclude)).within(only, len(self.index))
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
        return Reasoning(sample.text, item, status, sample.finish, len(sample.ids))

    def _sampled(
        self, questions: Sequence[Question] | Prepared, sampling: Sampling, seeds: Sequence[int] | None
    ) -> tuple[Prepared, list[list[Sample]]]:
        asked = questions if isinstance(questions, Prepared) else self.prepare(questions, "reason")
        return asked, self.engine.sample(asked.prompts, sampling, seeds, asked.parts, self._shown(asked))

    def _shown(self, asked: Prepared) -> list[list[int]]:
        """The items that each reasoning prompt shows."""
        return [rows[-self.prompts.reason_window :] for rows in asked.histories]

    def _rank(self, asked: Prepared, sampled: Sequence[Sequence[Sample]], beams: int) -> list[list[Recommendation]]:
        """The items that the reasonings of each question lead to together."""
        begin, _ = answer_tokens(self.engine.tokenizer)
        begun = [
            (number, asked.prompts[number] + list(sample.ids[: sample.ids.index(begin) + 1]))
            for number, samples in enumerate(sampled)
            for sample in samples
            if begin in sample.ids
        ]
        parts = [asked.parts[number] for number, _ in begun]
        found = self.engine.recommend([prompt for _, prompt in begun], beams, parts) if begun else []
        own: list[list[Ranking]] = [[] for _ in sampled]
        for (number, _), ranking in zip(begun, found, strict=True):
            own[number].append(ranking)
        return [self._ranked(Ranking.merged(rankings, beams)) for rankings in own]

    def _ranked(self, ranking: Ranking) -> list[Recommendation]:
        if ranking.error:
            raise GreamError(ranking.error)
        if not ((ranking.rows >= 0) & (ranking.rows < len(self.index))).all():
            raise RuntimeError(f"the {self.engine.name} engine recommended what is no item: rows {ranking.rows}")
        scored = zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True)
        return [Recommendation(self.index.item_ids[row], score) for row, score in scored]

    def _rows(self, item_ids: Collection[str]) -> list[int]:
        for item in item_ids:
            self.index.identifier(item)
        return [self.index.position[item] for item in item_ids]


def votes(reasonings: Sequence[Reasoning]) -> list[Recommendation]:
    """The distinct items of some reasonings, the most frequent first, with their share of all reasonings.

    Items named equally often stand in the order in which they were first named.
    """
    named = [one.item_id for one in reasonings if one.item_id is not None]
    order = sorted(dict.fromkeys(named), key=lambda item: (-named.count(item), named.index(item)))
    return [Recommendation(item, named.count(item) / len(reasonings)) for item in order]


def written_history(index: ItemIndex, text: str) -> list[str | None]:
    """The items that a response names between its thinking and its answer, in order; None for what is no item.

    Beside the user's history they say how faithful it was. An identifier that was cut short is left out.
    """
    _, _, after = text.rpartition(DEFAULT_FORMAT.reasoning_end)
    written, answer, _ = after.partition(DEFAULT_FORMAT.answer_begin)
    named = [index.item(identifier) for identifier in find_all(written)]
    return named if answer or named[-1:] != [None] else named[:-1]
