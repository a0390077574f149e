"""The embedded engine: a Hugging Face causal language model in this process."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from gream_ext.decoding.beam import search
from gream_ext.decoding.checks import check_prompts
from gream_ext.decoding.faithful import FaithfulHistory, HistoryProcessor, Rewriting
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.prior import Prior
from gream_ext.decoding.processors import AnswerProcessor, answer_tokens
from gream_ext.decoding.ranking import Normalisation, Ranking
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.rng import row_seeds
from gream_ext.decoding.sampler import Processor, Step, TokenSample, sample_steps
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Finish, Sample, Sampling, check_sampling

TOKENS_AT_ONCE = 16_384
"""Tokens of prompts and beams that direct mode computes together."""


class TransformersEngine:
    """Both modes on a model and a trie in the token ids of its tokenizer.

    ``tokens_at_once``, of prompts and beams, and ``prompts_at_once`` bound what direct mode computes together,
    ``rows_at_once`` what sampling does. In float32 results do not depend on them; in bfloat16 scores do a little, and
    near ties may change places.
    """

    name = "transformers"
    seeds = True

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        trie: ItemTrie,
        normalisation: Normalisation = "catalogue",
        tokens_at_once: int = TOKENS_AT_ONCE,
        prompts_at_once: int | None = None,
        rows_at_once: int = 512,
    ):
        self.model = LanguageModel(model.eval())
        self.tokenizer: Any = tokenizer
        self.trie = trie.to(self.model.device)
        self.normalisation = normalisation
        self.tokens_at_once = tokens_at_once
        self.prompts_at_once = prompts_at_once
        self.rows_at_once = rows_at_once
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
        parts = allowed if allowed is not None else [None] * len(prompts)
        found: dict[int, Ranking] = {}
        steps = beams * (self.trie.levels - 1)
        for batch in batches([len(prompt) for prompt in prompts], steps, self.tokens_at_once, self.prompts_at_once):
            asked, some = [prompts[number] for number in batch], [parts[number] for number in batch]
            own = None if prior is None else prior.take(batch)
            answers = search(self.model, self.trie, asked, beams, some, self.normalisation, prior=own)
            found.update(zip(batch, answers, strict=True))
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
        n, most = sampling.n, sampling.max_new_tokens
        grown = [TokenSample() for _ in range(n * len(prompts))]
        for step in self._steps(prompts, sampling, seeds, allowed, histories):
            grown[step.row].add(step)
        samples = [self._sample(one, most) for one in grown]
        return [samples[begin : begin + n] for begin in range(0, len(samples), n)]

    def stream(
        self,
        prompt: Sequence[int],
        sampling: Sampling,
        seed: int | None = None,
        allowed: SubCatalogue | None = None,
        history: Sequence[int] | None = None,
    ) -> Iterator[list[Sample]]:
        """``sampling.n`` responses as they grow; with a seed the same as those of `sample`."""
        grown = [TokenSample() for _ in range(sampling.n)]
        samples = [Sample((), (), "", None)] * sampling.n
        seeds, histories = None if seed is None else [seed], None if history is None else [history]
        for step in self._steps([prompt], sampling, seeds, [allowed], histories):
            if grown[step.row].add(step, sampling.max_new_tokens) or step.row == 0:
                samples[step.row] = self._sample(grown[step.row], sampling.max_new_tokens)
            yield list(samples)

    def _steps(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None,
        allowed: Sequence[SubCatalogue | None] | None,
        histories: Sequence[Sequence[int]] | None,
    ) -> Iterator[Step]:
        """The tokens of ``sampling.n`` rows for each prompt, one after the other."""
        check_prompts(prompts)
        check_sampling(sampling, allowed)
        if seeds is None:
            seeds = np.random.SeedSequence().generate_state(len(prompts), np.uint64).tolist()
        if len(seeds) != len(prompts):
            raise GreamError(f"{len(seeds)} seeds for {len(prompts)} prompts: give one a prompt")
        n = sampling.n
        processors: list[Processor] = []
        if sampling.constrained:
            parts = allowed if any(part is not None for part in allowed or ()) else None
            processors.append(AnswerProcessor(self.trie, *self._answer, parts, n))
        if sampling.constrained and sampling.faithful and self._rewriting is not None and histories is not None:
            own = [FaithfulHistory.of(self._rewriting, self.trie, history) for history in histories]
            processors.append(HistoryProcessor([one for one in own for _ in range(n)]))
        return sample_steps(
            self.model,
            [prompt for prompt in prompts for _ in range(n)],
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=[*self._ends, self._answer[1]],
            pad_token_id=0,
            seed=[int(row) for seed in seeds for row in row_seeds(seed, n)],
            logits_processors=processors,
            rows_at_once=self.rows_at_once,
        )

    def _sample(self, grown: TokenSample, most: int) -> Sample:
        finish: Finish | None = "length" if len(grown.ids) >= most else None
        if grown.ended:
            finish = "answer" if grown.ids[-1] == self._answer[1] else "end"
        text = self.tokenizer.decode(grown.ids, skip_special_tokens=True)
        return Sample(tuple(grown.ids), tuple(grown.logprobs), text, finish)


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


def end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that end the model's turn: the tokenizer's and those of the generation settings."""
    ends = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise GreamError("neither the tokenizer nor the model's generation settings name an end token")
    return sorted(ends)
