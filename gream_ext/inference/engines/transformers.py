"""The embedded engine: a Hugging Face causal language model in this process."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from gream_ext.decoding.beam import search
from gream_ext.decoding.checks import check_prompts
from gream_ext.decoding.faithful import FaithfulHistory, HistoryProcessor, Rewriting
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.processors import AnswerProcessor, answer_tokens
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.rng import row_seeds
from gream_ext.decoding.sampler import Processor, TokenSample, sample_steps, sample_tokens
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Capabilities, Sample, Sampling, check_sampling
from gream_ext.inference.loading import load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TokenSample", "TransformersEngine", "load_model", "sample_steps", "sample_tokens"]

TOKENS_AT_ONCE = 16_384
"""Tokens of prompts and beams that direct mode computes together."""


class TransformersEngine:
    """Both modes on a model and a trie in the token ids of its tokenizer.

    ``tokens_at_once``, of prompts and beams, and ``prompts_at_once`` bound what direct mode computes together,
    ``rows_at_once`` what sampling does. In float32 results do not depend on them; in bfloat16 scores do a little, and
    near ties may change places.
    """

    name = "transformers"
    capabilities = Capabilities(
        sub_catalogues=True,
        normalisations=("catalogue", "vocabulary"),
        constrained_answers=True,
        answer_sub_catalogues=True,
        logprobs=True,
        seeds=True,
        streams=True,
        faithful_histories=True,
        priors=True,
    )

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        trie: ItemTrie,
        normalisation: Normalisation = "catalogue",
        tokens_at_once: int = TOKENS_AT_ONCE,
        prompts_at_once: int | None = None,
        rows_at_once: int = 512,
        progress: bool = False,
    ):
        self.model = LanguageModel(model.eval())
        self.tokenizer: Any = tokenizer
        self.trie = trie.to(self.model.device)
        self.normalisation = normalisation
        self.tokens_at_once = tokens_at_once
        self.prompts_at_once = prompts_at_once
        self.rows_at_once = rows_at_once
        self.progress = progress
        self._answer = answer_tokens(tokenizer)
        self._ends = end_tokens(model, tokenizer)
        self._rewriting = Rewriting.of(tokenizer)

    def recommend(
        self,
        prompts: Sequence[Sequence[int]],
        beams: int,
        allowed: Sequence[SubCatalogue | None] | None = None,
        prior: Prior | None = None,
    ) -> list[Ranking]:
        """The ``beams`` likeliest items after each prompt, see `gream_ext.decoding.beam.search`."""
        if beams < 1:
            raise GreamError(f"beams must be at least 1, not {beams}")
        check_prompts(prompts)
        parts = list(allowed) if allowed is not None else [None] * len(prompts)
        found: dict[int, Ranking] = {}
        steps = beams * (self.trie.levels - 1)
        with tqdm(total=len(prompts), unit="prompt", disable=not self.progress) as bar:
            for batch in batches([len(prompt) for prompt in prompts], steps, self.tokens_at_once, self.prompts_at_once):
                asked = [prompts[number] for number in batch]
                some = [parts[number] for number in batch]
                own = None if prior is None else prior.take(batch)
                answers = search(self.model, self.trie, asked, beams, some, self.normalisation, prior=own)
                found.update(zip(batch, answers, strict=True))
                bar.update(len(batch))
        return [found[number] for number in range(len(prompts))]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        allowed: Sequence[SubCatalogue | None] | None = None,
        histories: Sequence[Sequence[int]] | None = None,
    ) -> list[list[Sample]]:
        """``sampling.n`` responses to each prompt; equal seeds give equal responses to a prompt."""
        check_prompts(prompts)
        check_sampling(sampling, allowed)
        rows = [prompt for prompt in prompts for _ in range(sampling.n)]
        own = _own_seeds(seeds, len(prompts))
        row_seed = [int(seed) for prompt_seed in own for seed in row_seeds(prompt_seed, sampling.n)]
        samples = [TokenSample() for _ in rows]
        with tqdm(total=len(rows), unit="response", disable=not self.progress) as bar:
            for step in self._steps(rows, sampling, row_seed, allowed, histories, sampling.n):
                sample = samples[step.row]
                sample.ids.append(step.token)
                sample.logprobs.append(step.logprob)
                sample.ended = step.ended
                if step.ended or len(sample.ids) == sampling.max_new_tokens:
                    bar.update()
        done = [self._sample(sample, cut=True) for sample in samples]
        return [done[begin : begin + sampling.n] for begin in range(0, len(done), sampling.n)]

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        seed: int | None = None,
        allowed: SubCatalogue | None = None,
        history: Sequence[int] | None = None,
    ) -> Iterator[Sample]:
        """One response as it grows; with a seed the same as the first of `sample`."""
        check_prompts([prompt])
        check_sampling(sampling, [allowed])
        (own,) = _own_seeds(None if seed is None else [seed], 1)
        growing = TokenSample()
        histories = None if history is None else [history]
        for step in self._steps([prompt], sampling, [int(row_seeds(own, 1)[0])], [allowed], histories, 1):
            growing.ids.append(step.token)
            growing.logprobs.append(step.logprob)
            growing.ended = step.ended
            yield self._sample(growing, cut=len(growing.ids) == sampling.max_new_tokens)

    def _steps(
        self,
        rows: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        allowed: Sequence[SubCatalogue | None] | None,
        histories: Sequence[Sequence[int]] | None,
        rows_per_request: int,
    ) -> Any:
        processors: list[Processor] = []
        if sampling.constrained:
            parts = allowed if any(part is not None for part in allowed or ()) else None
            processors.append(AnswerProcessor(self.trie, *self._answer, parts, rows_per_request))
        if sampling.constrained and sampling.faithful and self._rewriting is not None and histories is not None:
            own = [FaithfulHistory.of(self._rewriting, self.trie, history) for history in histories]
            processors.append(HistoryProcessor([one for one in own for _ in range(rows_per_request)]))
        return sample_steps(
            self.model,
            rows,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=[*self._ends, self._answer[1]],
            pad_token_id=0,
            seed=seeds,
            logits_processors=processors,
            rows_at_once=self.rows_at_once,
        )

    def _sample(self, sample: TokenSample, cut: bool) -> Sample:
        finish = None
        if sample.ended:
            finish = "answer" if sample.ids[-1] == self._answer[1] else "end"
        elif cut:
            finish = "length"
        text = self.tokenizer.decode(sample.ids, skip_special_tokens=True)
        return Sample(tuple(sample.ids), tuple(sample.logprobs), text, finish)  # type: ignore[arg-type]


def batches(lengths: Sequence[int], steps: int, tokens: int, most: int | None = None) -> Iterator[list[int]]:
    """Which prompts are computed together: places in ``lengths``, the shortest first.

    Prompts of about one length stand together, for the longest of a batch sets how wide it is; each has ``steps`` more
    tokens, those of its beams. A batch holds at most ``tokens`` in all, and ``most`` prompts.
    """
    order = sorted(range(len(lengths)), key=lambda number: lengths[number])
    begin = 0
    for end in range(1, len(order) + 1):
        full = end == len(order) or (end + 1 - begin) * (lengths[order[end]] + steps) > tokens or end - begin == most
        if full:
            yield order[begin:end]
            begin = end


def end_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Token ids that end the model's turn: the tokenizer's and those of the generation settings."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise GreamError("neither the tokenizer nor the model's generation settings name an end token")
    return sorted(ends)


def _own_seeds(seeds: Sequence[int] | None, prompts: int) -> list[int]:
    if seeds is None:
        return [int(seed) for seed in np.random.SeedSequence().generate_state(prompts, np.uint64)]
    if len(seeds) != prompts:
        raise GreamError(f"{len(seeds)} seeds for {prompts} prompts: give one a prompt")
    return list(seeds)
