"""Our decoding against transformers' own ``generate``: same beams, same scores, same distribution."""

import numpy as np
import pytest
import torch
from transformers import LogitsProcessorList

from gream_ext.decoding.beam import search
from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.processors import AnswerProcessor, ItemProcessor
from gream_ext.decoding.restriction import SubCatalogue
from gream_ext.decoding.sampler import sample_tokens
from gream_ext.decoding.trie import ItemTrie
from tests.support.tiny_models import tiny_gemma2, tiny_llama, tiny_qwen3

pytestmark = pytest.mark.integration

EOS = 1
PROMPTS = [[5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15, 16, 17, 18], [5, 6, 7]]


def catalogue(levels=5, items=60, seed=0):
    generator = np.random.default_rng(seed)
    ids = np.unique(generator.integers(0, 6, (items, levels)), axis=0)
    return ids + 20 + 10 * np.arange(levels)


def left_padded(prompts):
    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return {"input_ids": ids, "attention_mask": mask}


def generated_beams(model, ids, prompts, beams, **constraint):
    """Items and scores of ``generate``, prompt by prompt."""
    inputs = left_padded(prompts)
    length = inputs["input_ids"].shape[1]
    with torch.inference_mode():
        output = model.generate(
            **inputs,
            num_beams=beams,
            num_return_sequences=beams,
            max_new_tokens=ids.shape[1],
            do_sample=False,
            length_penalty=0.0,
            return_dict_in_generate=True,
            output_scores=True,
            **constraint,
        )
    rows = {tuple(identifier): row for row, identifier in enumerate(ids.tolist())}
    named = [rows[tuple(sequence[length:].tolist())] for sequence in output.sequences]
    scores = output.sequences_scores
    return np.array(named).reshape(len(prompts), beams), scores.numpy().reshape(len(prompts), beams)


def allowed_by_hash(ids, prompt_length):
    """What everybody writes for ``prefix_allowed_tokens_fn``."""
    follows = {}
    for identifier in ids.tolist():
        for level in range(len(identifier)):
            follows.setdefault(tuple(identifier[:level]), set()).add(identifier[level])
    return lambda batch, sentence: sorted(follows.get(tuple(sentence[prompt_length:].tolist()), {EOS}))


@pytest.mark.parametrize("make", [tiny_qwen3, tiny_llama, tiny_gemma2])
@pytest.mark.parametrize("beams", [2, 5, 20])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_same_beams_and_scores_as_generate(make, beams, batch):
    model, ids = make(), catalogue()
    for begin in range(0, len(PROMPTS), batch):
        prompts = PROMPTS[begin : begin + batch]
        length = max(len(prompt) for prompt in prompts)
        rows, scores = generated_beams(
            model, ids, prompts, beams, prefix_allowed_tokens_fn=allowed_by_hash(ids, length)
        )
        ours = search(LanguageModel(model), ItemTrie.build(ids), prompts, beams, normalisation="vocabulary")
        for number, ranking in enumerate(ours):
            np.testing.assert_allclose(ranking.scores, scores[number], atol=2e-3)
            assert ranking.rows.tolist() == rows[number].tolist()


@pytest.mark.parametrize("beams", [3, 8])
def test_sub_catalogues_give_what_generate_gives_for_them(beams):
    model, ids = tiny_qwen3(), catalogue()
    length = max(len(prompt) for prompt in PROMPTS)
    kept = [np.arange(0, len(ids), 2), np.arange(10, 30)]
    parts = [SubCatalogue.only(kept[0]), SubCatalogue.without(np.setdiff1d(np.arange(len(ids)), kept[1]))] * 2
    ours = search(LanguageModel(model), ItemTrie.build(ids), PROMPTS, beams, parts, "vocabulary")
    for number, prompt in enumerate(PROMPTS):
        allowed = kept[number % 2]
        function = allowed_by_hash(ids[allowed], length)
        # Padded to the longest of all, as it would be within a batch.
        rows, scores = generated_beams(model, ids, [prompt, PROMPTS[2]], beams, prefix_allowed_tokens_fn=function)
        assert ours[number].rows.tolist() == rows[0].tolist()
        np.testing.assert_allclose(ours[number].scores, scores[0], atol=2e-3)


def test_our_processor_in_generate_gives_the_same_beams():
    model, ids = tiny_qwen3(), catalogue()
    length = max(len(prompt) for prompt in PROMPTS)
    rows, scores = generated_beams(model, ids, PROMPTS, 4, prefix_allowed_tokens_fn=allowed_by_hash(ids, length))
    processors = LogitsProcessorList([ItemProcessor(ItemTrie.build(ids), length, EOS)])
    ours, our_scores = generated_beams(model, ids, PROMPTS, 4, logits_processor=processors)
    assert ours.tolist() == rows.tolist()
    np.testing.assert_allclose(our_scores, scores, atol=1e-4)


def test_generate_that_samples_answers_real_items():
    model, ids = tiny_qwen3(), catalogue(levels=3, items=10)
    begin, end = 18, 19
    prompts = [[5, 6, begin]] * 200
    processors = LogitsProcessorList([AnswerProcessor(ItemTrie.build(ids), begin, end)])
    with torch.inference_mode():
        torch.manual_seed(0)
        written = model.generate(
            torch.tensor(prompts), max_new_tokens=4, do_sample=True, top_k=0, logits_processor=processors
        )[:, 3:]
    assert {tuple(row) for row in written[:, :3].tolist()} <= {tuple(row) for row in ids.tolist()}
    assert (written[:, 3] == end).all()


def test_the_same_distribution_as_generate():
    model, samples = tiny_qwen3(40), 4_000
    prompts = [[5, 6, 7]] * samples
    settings = {"temperature": 0.8, "top_p": 0.7, "max_new_tokens": 2}
    ours = sample_tokens(model, prompts, eos_token_id=EOS, pad_token_id=0, seed=0, **settings)
    with torch.inference_mode():
        torch.manual_seed(0)
        theirs = model.generate(torch.tensor(prompts), do_sample=True, top_k=0, **settings)[:, 3:].tolist()
    counts = []
    for written in ([[*sample.ids, 0][:2] for sample in ours], theirs):
        table = np.zeros((40, 40))
        for first, second in written:
            table[first, second if first != EOS else 0] += 1
        counts.append(table / samples)
    error = np.sqrt(np.maximum(counts[0], counts[1]) * 2 / samples)
    assert (np.abs(counts[0] - counts[1]) <= 5 * error + 1e-9).all()
    assert ((counts[0].sum(1) > 5 / samples) == (counts[1].sum(1) > 5 / samples)).mean() > 0.9
