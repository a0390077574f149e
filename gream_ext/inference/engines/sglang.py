"""SGLang as an engine: its offline engine in this process, or a running server.

Both need our plug-in within SGLang (`gream_ext.plugins.sglang`), which keeps beam search and answers on the trie. An
engine asks for it before its first request, and checks every item that comes back against its own trie.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gream_ext.decoding.checks import NOTHING_ALLOWED, check_prompts
from gream_ext.decoding.faithful import Rewriting
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.processors import answer_tokens
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import Restrictions, SubCatalogue
from gream_ext.decoding.trie import NOWHERE, ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Capabilities, Sample, Sampling, check_sampling, require
from gream_ext.inference.engines.sglang_offline import Offline
from gream_ext.inference.engines.sglang_reply import finish, ranking
from gream_ext.inference.engines.sglang_request import (
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
    capabilities = Capabilities(
        sub_catalogues=True,
        normalisations=("catalogue", "vocabulary"),
        constrained_answers=True,
        answer_sub_catalogues=True,
        logprobs=False,
        seeds=False,
        streams=True,
        faithful_histories=True,
    )

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
        require(self, "priors", prior is not None, "a prior in the beam")
        if beams < 2:
            raise GreamError(f"the sglang engine searches with at least 2 beams, not {beams}")
        check_prompts(prompts)
        parts = list(allowed) if allowed is not None else [None] * len(prompts)
        asked = np.flatnonzero(Restrictions.of(self.trie, parts).sizes > 0).tolist()
        answers = [Ranking.failed(NOTHING_ALLOWED)] * len(prompts)
        requests = [self._beam_request(prompts[number], beams, parts[number]) for number in asked]
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
    ) -> Iterator[Sample]:
        """One response as it grows; what SGLang says twice is said once."""
        check_prompts([prompt])
        _check_seed(seed)
        check_sampling(sampling, [allowed])
        request = self._sample_request(prompt, allowed, history, sampling)
        request["sampling_params"]["n"] = 1
        written = 0
        for answer in self.transport.stream(request):
            sample = self._sample(answer)
            if len(sample.ids) > written or sample.finish is not None:
                yield sample
            written = len(sample.ids)

    def _beam_request(self, prompt: Sequence[int], beams: int, part: SubCatalogue | None) -> dict[str, Any]:
        return BeamRequest(self._catalogue, self.normalisation, part).request(prompt, beams, self.trie.levels)

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
