"""Rows that share a prompt's keys and values compute what the model itself computes."""

import pytest
import torch

from gream_ext.decoding.continuation import Copied, Prompts, Shared, start
from gream_ext.decoding.language_model import LanguageModel, Traits
from tests.support.tiny_models import tiny_gemma2, tiny_llama, tiny_qwen3

PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]]
PROMPT_OF_ROW = torch.tensor([0, 0, 0, 1, 2, 2])


def begun(model, kind=start):
    """Six rows that continue the three prompts."""
    continuation = kind(model, Prompts.of(PROMPTS, "cpu"))
    continuation.select(PROMPT_OF_ROW)
    return continuation


def plain(model, tokens):
    """The slow obvious reference: the whole text of one row, from its start."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens])).logits[0, -1]


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama])
def test_models_with_plain_attention_share_prompts(make):
    model = LanguageModel(make())
    assert model.traits == Traits(True, True, True, True)
    assert isinstance(begun(model), Shared)


def test_a_model_with_attention_of_its_own_kind_falls_back():
    model = LanguageModel(tiny_gemma2())
    assert model.traits == Traits()
    assert isinstance(begun(model), Copied)


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama, tiny_gemma2])
@pytest.mark.parametrize("steps", [3, 40])
def test_every_row_equals_the_model_run_on_its_whole_text(make, steps):
    model = make()
    wrapped = LanguageModel(model)
    rows = [list(PROMPTS[prompt]) for prompt in PROMPT_OF_ROW.tolist()]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        continuation = begun(wrapped)
        first = wrapped.logits(continuation.first)
        for prompt, logits in zip(PROMPTS, first, strict=True):
            torch.testing.assert_close(logits, plain(model, prompt), atol=2e-4, rtol=1e-4)
        for step in range(steps):
            if step == 1:  # as beams do: repeat some rows, forget others, in another order within a prompt
                chosen = [2, 2, 0, 3, 5, 4]
                continuation.select(torch.tensor(chosen))
                rows = [list(rows[row]) for row in chosen]
            if step == 2:  # as sampling does: rows end, and with them a prompt
                continuation.select(torch.tensor([0, 4, 5]))
                rows = [rows[0], rows[4], rows[5]]
            tokens = torch.randint(2, 120, (len(rows),), generator=generator)
            hidden = continuation.advance(tokens)
            for row, token in zip(rows, tokens.tolist(), strict=True):
                row.append(token)
        for row, logits in zip(rows, wrapped.logits(hidden), strict=True):
            torch.testing.assert_close(logits, plain(model, row), atol=5e-4, rtol=1e-3)


def test_logits_of_some_tokens_are_those_of_all():
    for make in (tiny_qwen3, tiny_llama, tiny_gemma2):
        model = LanguageModel(make())
        with torch.inference_mode():
            hidden = begun(model).first
            some = torch.tensor([7, 3, 99])
            torch.testing.assert_close(model.logits_of(hidden, some), model.logits(hidden)[:, some])


def test_the_model_keeps_its_own_attention_and_its_gradients():
    model = tiny_qwen3()
    usual = model.config._attn_implementation
    ids = torch.tensor([PROMPTS[0]])
    before = model(input_ids=ids).logits
    with torch.inference_mode():
        begun(LanguageModel(model)).advance(torch.arange(2, 8))
    assert model.config._attn_implementation == usual
    after = model(input_ids=ids).logits
    assert torch.equal(before, after)
    after.sum().backward()


def test_half_precision_goes_the_same_way():
    model = tiny_qwen3().to(torch.bfloat16)
    wrapped = LanguageModel(model)
    assert wrapped.traits.shares_prompts
    with torch.inference_mode():
        shared, copied = begun(wrapped, Shared), begun(wrapped, Copied)
        tokens = torch.arange(2, 8)
        ours, theirs = shared.advance(tokens), copied.advance(tokens)
    torch.testing.assert_close(ours, theirs, atol=0.1, rtol=0.1)


def test_what_a_model_without_weights_shows_is_not_remembered():
    model = tiny_gemma2()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.data.zero_()
    LanguageModel(model)
    model.load_state_dict(kept)
    assert not LanguageModel(model).traits.plain_head
