"""Sampling: which distribution, which log-probabilities, and that rows mind only themselves."""

import math

import numpy as np
import pytest
import torch

from gream_ext.decoding.processors import GivenAnswers
from gream_ext.decoding.rng import _in_nucleus, draw, row_seeds, uniforms
from gream_ext.decoding.sampler import sample_tokens
from gream_ext.errors import GreamError
from tests.support.tiny_models import tiny_gemma2, tiny_qwen3

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [5, 6, 7, 8, 9], [12, 13, 14], [10, 11]]
SETTINGS = {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 12, "eos_token_id": 1, "pad_token_id": 0}


@pytest.fixture(scope="module")
def model():
    return tiny_qwen3()


def slow_top_p(logits, temperature, top_p):
    """Sort, add up, cut, renormalise."""
    probabilities = torch.softmax(logits.double() / temperature, -1)
    order = probabilities.argsort(descending=True)
    kept, total = torch.zeros_like(probabilities), 0.0
    for token in order.tolist():
        if total >= top_p:
            break
        kept[token] = probabilities[token]
        total += float(probabilities[token])
    return kept / kept.sum()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_draws_follow_the_renormalised_nucleus(top_p):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(12, generator=generator) * 2
    rows = 40_000
    tokens, logprobs = draw(logits.repeat(rows, 1), 0.7, top_p, row_seeds(3, rows), step=5)
    expected = slow_top_p(logits, 0.7, top_p)
    observed = torch.bincount(tokens, minlength=12) / rows
    assert not bool((observed[expected == 0] > 0).any())
    error = (expected * (1 - expected) / rows).sqrt()
    assert bool(((observed - expected).abs() <= 5 * error + 1e-9).all())
    torch.testing.assert_close(logprobs, torch.log_softmax(logits / 0.7, -1)[tokens])


def test_a_certain_token_is_always_drawn():
    logits = torch.full((4, 6), -1e9)
    logits[:, 3] = 0.0
    tokens, logprobs = draw(logits, 1.0, 1.0, row_seeds(0, 4), step=0)
    assert tokens.tolist() == [3] * 4 and logprobs.tolist() == [0.0] * 4


def test_chance_is_even_and_independent_of_the_rows_beside():
    seeds = row_seeds(7, 50_000)
    assert np.array_equal(row_seeds(7, 3), seeds[:3])
    assert len(np.unique(seeds)) == len(seeds)
    first, second = uniforms(seeds, 0), uniforms(seeds, 1)
    assert first.min() >= 0 and first.max() < 1
    assert np.abs(np.histogram(first, 10, (0, 1))[0] / 5_000 - 1).max() < 0.06
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.02
    assert abs(np.corrcoef(first, uniforms(seeds, 0, attempt=1))[0, 1]) < 0.02


def test_logprobs_are_those_of_the_model_at_that_temperature(model):
    for sample, prompt in zip(sample_tokens(model, PROMPTS, seed=0, **SETTINGS), PROMPTS, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + sample.ids])).logits[0]
        expected = torch.log_softmax(logits / 0.7, -1)[len(prompt) - 1 : -1]
        expected = expected.gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_a_row_minds_its_prompt_and_its_seed_only(model):
    seeds = [11, 12, 13, 14, 15]
    together = sample_tokens(model, PROMPTS, seed=seeds, **SETTINGS)
    for rows_at_once in (1, 2, 3):
        assert [s.ids for s in sample_tokens(model, PROMPTS, seed=seeds, rows_at_once=rows_at_once, **SETTINGS)] == [
            s.ids for s in together
        ]
    for row, sample in enumerate(together):
        assert sample_tokens(model, [PROMPTS[row]], seed=[seeds[row]], **SETTINGS)[0].ids == sample.ids
    assert together[0].ids != together[2].ids
    assert sample_tokens(model, PROMPTS, seed=1, **SETTINGS) == sample_tokens(model, PROMPTS, seed=1, **SETTINGS)
    assert sample_tokens(model, PROMPTS, seed=1, **SETTINGS) != sample_tokens(model, PROMPTS, seed=2, **SETTINGS)
    assert sample_tokens(model, PROMPTS, **SETTINGS) != sample_tokens(model, PROMPTS, **SETTINGS)


def test_rows_end_at_an_end_token_and_say_so(model):
    prompts = PROMPTS * 8
    samples = sample_tokens(
        model, prompts, seed=4, **{**SETTINGS, "eos_token_id": list(range(40)), "max_new_tokens": 6}
    )
    assert {sample.ended for sample in samples} == {True, False}
    for sample in samples:
        assert sample.ended == (sample.ids[-1] < 40)
        assert all(token >= 40 for token in sample.ids[:-1])
        assert sample.ended or len(sample.ids) == 6
        assert len(sample.ids) == len(sample.logprobs)


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_gemma2])
def test_greedy_equals_generate(make):
    model = make()
    for prompt, sample in zip(PROMPTS, sample_tokens(model, PROMPTS, **{**SETTINGS, "temperature": 0}), strict=True):
        with torch.inference_mode():
            expected = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
        assert sample.ids == expected.tolist()


def test_processors_see_the_whole_text_and_do_not_touch_logprobs(model):
    seen = []

    def only_even(input_ids, scores):
        seen.append(input_ids.clone())
        scores[:, 1::2] = float("-inf")  # in place, as careless processors do
        return scores

    samples = sample_tokens(model, PROMPTS, seed=0, logits_processors=[only_even], **SETTINGS)
    assert all(token % 2 == 0 for sample in samples for token in sample.ids)
    assert seen[0].tolist()[0][-2:] == [10, 11]  # shortest first
    assert seen[0].shape == (5, 5) and seen[-1].shape[1] == 16
    for sample, prompt in zip(samples, PROMPTS, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt + sample.ids])).logits[0]
        expected = torch.log_softmax(logits / 0.7, -1)[len(prompt) - 1 : -1].gather(
            1, torch.tensor(sample.ids)[:, None]
        )
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected[:, 0], atol=1e-4, rtol=1e-4)


def test_a_processor_is_told_which_rows_are_there(model):
    class Only:
        """Row r of the call may end at once if r is odd, and never otherwise."""

        def __init__(self, rows=()):
            self.rows = rows

        def at_rows(self, rows):
            return Only(list(rows))

        def __call__(self, input_ids, scores):
            scores = scores.clone()
            for place, row in enumerate(self.rows):
                scores[place] = float("-inf") if row % 2 else scores[place]
                scores[place, 1] = 0.0 if row % 2 else float("-inf")
            return scores

    samples = sample_tokens(model, PROMPTS, seed=0, logits_processors=[Only()], **SETTINGS)
    assert [len(sample.ids) for sample in samples] == [12, 1, 12, 1, 12]


def test_wrong_options_are_refused(model):
    for wrong in (
        {"temperature": -1.0},
        {"temperature": math.nan},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"max_new_tokens": 0},
    ):
        with pytest.raises(GreamError, match="sampling needs"):
            sample_tokens(model, PROMPTS, **{**SETTINGS, **wrong})
    with pytest.raises(GreamError, match="prompt 1 is empty"):
        sample_tokens(model, [[1], []], **SETTINGS)
    assert sample_tokens(model, [], **SETTINGS) == []


def test_a_broken_model_is_named_rather_than_waited_for():
    model = tiny_qwen3()
    model.model.embed_tokens.weight.data[5] = float("nan")
    with pytest.raises(GreamError, match="no numbers"):
        sample_tokens(model, PROMPTS, seed=0, **SETTINGS)


def test_the_nucleus_ends_where_top_p_is_reached():
    """Just reached is reached: of .5, .25 and .25 at top-p .5 the first alone."""
    probabilities = torch.tensor([[0.5, 0.25, 0.25]] * 3)
    assert _in_nucleus(probabilities, torch.arange(3), 0.5).tolist() == [True, False, False]
    assert _in_nucleus(probabilities, torch.arange(3), 0.51).tolist() == [True, True, True]


def test_a_given_answer_has_the_models_log_probs(model):
    """From the beginning, or behind two markers that the model writes itself; what is free stays as it was drawn."""
    prompts, answer = [[5, 6, 7], [5, 6, 7], [8, 9]], [11, 12, 2]
    options = {"temperature": 0.7, "top_p": 1.0, "max_new_tokens": 40, "eos_token_id": 2, "pad_token_id": 0,
               "seed": [1, 2, 3]}  # fmt: skip
    free = sample_tokens(model, prompts, **options)
    markers = [free[1].ids[2], free[1].ids[4]]
    given = GivenAnswers([answer, answer, []], [[], markers, []])
    first, second, third = sample_tokens(model, prompts, **options, logits_processors=[given])
    begin = len(second.ids) - len(answer)
    assert first.ids == answer
    assert second.ids == free[1].ids[:begin] + answer
    assert begin <= 5
    assert free[1].ids[begin - 1] == markers[1]
    assert third.ids == free[2].ids
    assert first.ended
    assert second.ended
    for prompt, sample in zip(prompts, (first, second, third), strict=True):
        logits = model(input_ids=torch.tensor([prompt + sample.ids])).logits[0, len(prompt) - 1 : -1] / 0.7
        expected = logits.log_softmax(-1).gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        np.testing.assert_allclose(sample.logprobs, expected.detach(), atol=1e-3)
