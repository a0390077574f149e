"""SGLang as an engine: its offline engine in this process, or a running server.

Both need our plug-in within SGLang (`gream_ext.plugins.sglang`), which keeps beam search and answers on the trie. An
engine asks for it before its first request, and checks every item that comes back against its own trie.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gream_ext.decoding.checks import NOTHING_ALLOWED, check_numbers, check_prompts
from gream_ext.decoding.faithful import Rewriting
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Finish, Sample, Sampling, check_sampling
from gream_ext.inference.engines.sglang_offline import Offline
from gream_ext.inference.engines.sglang_request import (
    IMPOSSIBLE,
    TRIE_VARIABLE,
    AnswerTag,
    BeamRequest,
    fingerprint,
    served_catalogue,
)
from gream_ext.inference.engines.sglang_server import Refusal, Server, Transport

WHO_ASKS = "?"
"""A catalogue that no server has; its refusal names the one it serves."""


class SGLangEngine:
    """Both modes on SGLang. ``trie`` and ``tokenizer`` are those of the model that SGLang serves."""

    name = "sglang"
    seeds = False

    def __init__(
        self, transport: Transport, tokenizer: Any, trie: ItemTrie, normalisation: Normalisation = "catalogue"
    ):
        self.transport, self.tokenizer, self.trie, self.normalisation = transport, tokenizer, trie, normalisation
        self._answer = answer_tokens(tokenizer)
        self._catalogue = fingerprint(trie)
        self._rewriting = Rewriting.of(tokenizer)
        self._check_server()

    @classmethod
    def launch(
        cls, model: Path, tokenizer: Any, trie: ItemTrie, normalisation: Normalisation = "catalogue", **arguments: Any
    ) -> "SGLangEngine":
        """Start SGLang's offline engine on a model folder; ``arguments`` are those of SGLang's server."""
        transport = Offline(model, trie, arguments)
        try:
            return cls(transport, tokenizer, trie, normalisation)
        except BaseException:
            transport.close()
            raise

    @classmethod
    def connect(
        cls, url: str, tokenizer: Any, trie: ItemTrie, normalisation: Normalisation = "catalogue"
    ) -> "SGLangEngine":
        """Use a server that was started with ``GREAM_SGLANG_TRIE``; see docs/sglang.md."""
        return cls(Server(url), tokenizer, trie, normalisation)

    def close(self) -> None:
        """End the offline engine; a server goes on."""
        self.transport.close()

    def recommend(
        self,
        prompts: Sequence[Sequence[int]],
        beams: int,
        allowed: Sequence[SubCatalogue | None] | None = None,
        prior: Prior | None = None,
    ) -> list[Ranking]:
        """The ``beams`` likeliest items after each prompt, by SGLang's own beam search along the trie."""
        if prior is not None:
            raise GreamError("the sglang engine cannot be guided by a prior: use the transformers engine")
        if beams < 2:
            raise GreamError(f"the sglang engine searches with at least 2 beams, not {beams}")
        check_prompts(prompts)
        parts = list(allowed) if allowed is not None else [None] * len(prompts)
        asked = np.flatnonzero(Restrictions.of(self.trie, parts).sizes > 0).tolist()
        answers = [Ranking.failed(NOTHING_ALLOWED)] * len(prompts)
        requests = [
            BeamRequest(self._catalogue, self.normalisation, parts[number]).request(
                prompts[number], beams, self.trie.levels
            )
            for number in asked
        ]
        for number, answer in zip(asked, self.transport.generate(requests), strict=True):
            answers[number] = Ranking.failed(answer) if isinstance(answer, Refusal) else ranking(answer, self.trie)
        return answers

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        allowed: Sequence[SubCatalogue | None] | None = None,
        histories: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Sample]]:
        """``sampling.n`` responses to each prompt. `GreamError` for seeds: SGLang's samples depend on their batch."""
        check_prompts(prompts)
        _check_seed(seeds)
        check_sampling(sampling, allowed)
        parts = list(allowed) if allowed is not None else [None] * len(prompts)
        own = histories if histories is not None else [None] * len(prompts)
        requests = [self._sample_request(*one, sampling) for one in zip(prompts, parts, own, strict=True)]
        found = []
        for number, answer in enumerate(self.transport.generate(requests)):
            if isinstance(answer, Refusal):
                raise GreamError(f"prompt {number}: {answer}")
            found.append([self._sample(one) for one in (answer if isinstance(answer, list) else [answer])])
        return found

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        seed: int | None = None,
        allowed: SubCatalogue | None = None,
        history: Sequence[int] | None = None,
    ) -> Iterator[list[Sample]]:
        """The first response as it grows, then all of them; what SGLang says twice is said once."""
        check_prompts([prompt])
        _check_seed(seed)
        check_sampling(sampling, [allowed])
        grown = Sample((), (), "", None)
        for answer in self.transport.stream(self._sample_request(prompt, allowed, history, replace(sampling, n=1))):
            before, grown = len(grown.ids), self._sample(answer)
            if len(grown.ids) > before or grown.finish is not None:
                yield [grown]
        if sampling.n > 1:
            histories = None if history is None else [history]
            [others] = self.sample([prompt], replace(sampling, n=sampling.n - 1), None, [allowed], histories)
            yield [grown, *others]

    def _sample_request(
        self, prompt: Sequence[int], part: SubCatalogue | None, history: Sequence[int] | None, sampling: Sampling
    ) -> dict[str, Any]:
        begin, end = self._answer
        asked: dict[str, Any] = {
            "n": sampling.n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_new_tokens": sampling.max_new_tokens,
            "stop_token_ids": [end],
        }
        if sampling.constrained:
            held = sampling.faithful and history is not None
            own = (self._rewriting, tuple(history or ())) if held else (None, ())
            tag = AnswerTag(self._catalogue, begin, end, self._written(prompt), part, *own)
            asked["structural_tag"] = tag.text()
        return {"input_ids": list(map(int, prompt)), "sampling_params": asked}

    def _written(self, prompt: Sequence[int]) -> tuple[int, ...] | None:
        """The tokens of an answer within which the prompt ends; None where it does not."""
        recent = list(prompt[-(self.trie.levels + 1) :])
        if self._answer[0] not in recent:
            return None
        written = recent[len(recent) - recent[::-1].index(self._answer[0]) :]
        return tuple(written) if int(self.trie.walk(torch.tensor([written], dtype=torch.int64))[0]) != NOWHERE else None

    def _sample(self, answer: dict[str, Any]) -> Sample:
        ids = tuple(answer["output_ids"])
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Sample(ids, (), text, finish(answer, self._answer[1]))

    def _check_server(self) -> None:
        """`GreamError` unless our plug-in answers and serves our catalogue."""
        question = BeamRequest(WHO_ASKS, self.normalisation, None).request([0], 2, self.trie.levels)
        [answer] = self.transport.generate([question])
        served = served_catalogue(answer) if isinstance(answer, Refusal) else None
        if served is None:
            raise GreamError(
                "this SGLang does not keep to a catalogue: install gream-ext beside it and start it with "
                f"{TRIE_VARIABLE}=FILE, see docs/sglang.md (it said: {str(answer)[:200]})"
            )
        if served != self._catalogue:
            raise GreamError(
                f"this SGLang serves another catalogue ({served}) than this item index and tokenizer make "
                f"({self._catalogue}): start it with the trie of this index"
            )


def _check_seed(seed: object) -> None:
    if seed is not None:
        raise GreamError("the sglang engine cannot repeat a sample from its seed: leave the seed out")


def ranking(answer: dict[str, Any], trie: ItemTrie) -> Ranking:
    """The items of a beam search, or why it was broken off; `GreamError` for anything that is no item."""
    found, reason = answer["meta_info"].get("beam_results"), answer["meta_info"].get("finish_reason")
    if not found and reason and reason["type"] == "abort":
        return Ranking.failed(f"SGLang ended the search: {reason.get('message')}")
    if not found:
        raise GreamError(f"SGLang answered without beams: {reason}")
    scores = [one["meta_info"]["sequence_score"] for one in found]
    check_numbers(not any(score is None or math.isnan(score) for score in scores))
    # SGLang divides by the length; every beam has that of the longest identifier.
    sums = np.array(scores, dtype=np.float64) * trie.levels
    real = np.flatnonzero(sums > IMPOSSIBLE / 2)
    if not len(real):
        raise GreamError("SGLang found no item, though the catalogue of the request holds some")
    nodes = trie.walk(torch.tensor([found[place]["output_ids"] for place in real]))
    if not trie.is_complete(nodes).all():
        raise GreamError("SGLang answered with what is no item: its plug-in of gream_ext does not take part")
    return Ranking(trie.row_of(nodes).numpy(), sums[real].astype(np.float32))


def finish(answer: dict[str, Any], answer_end: int) -> Finish | None:
    """Why a response ended, None while it grows; `GreamError` when SGLang broke it off."""
    reason = answer["meta_info"]["finish_reason"]
    if reason is None:
        return None
    if reason["type"] == "abort":
        raise GreamError(f"SGLang ended a response: {reason.get('message')}")
    if reason["type"] == "length":
        return "length"
    return "answer" if answer["output_ids"][-1:] == [answer_end] else "end"
