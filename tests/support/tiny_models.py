"""Randomly initialised causal language models, small enough for unit tests."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from gream_ext.items.index import ItemIndex


def tiny_qwen3(vocabulary: int = 120, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Two layers, two key heads for four heads, tied head; weights large enough for opinions of its own."""
    return _make(Qwen3Config, Qwen3ForCausalLM, seed, {"vocab_size": vocabulary, "head_dim": 8, **options})


def tiny_llama(vocabulary: int = 120, seed: int = 0, **options: Any) -> PreTrainedModel:
    return _make(
        LlamaConfig, LlamaForCausalLM, seed, {"vocab_size": vocabulary, "tie_word_embeddings": False, **options}
    )


def tiny_gemma2(vocabulary: int = 120, seed: int = 0, **options: Any) -> PreTrainedModel:
    """Sliding windows, capped attention and capped logits: none of our shortcuts fits it."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    return _make(Gemma2Config, Gemma2ForCausalLM, seed, {"vocab_size": vocabulary, "head_dim": 8, **options})


def tiny_chat_model(index: ItemIndex, seed: int = 0, **options: Any) -> tuple[PreTrainedModel, Any]:
    """A tiny Qwen3 and its tokenizer, which knows ChatML, the markers and the identifier tokens of ``index``."""
    from gream_ext.base_model.extend import MARKERS
    from gream_ext.base_model.tokenizer import add_ordinary_tokens, chat_tokenizer, train_bpe

    tokenizer = chat_tokenizer(train_bpe(["The user has interacted with items"], 300, across_words=False), 512)
    add_ordinary_tokens(tokenizer, [*MARKERS, *index.vocabulary])
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return tiny_qwen3(len(tokenizer), seed, **ends, **options), tokenizer


def _make(config: Any, model: Any, seed: int, options: dict[str, Any]) -> PreTrainedModel:
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": None,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = model(config(**{**shape, **options})).eval()
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.data.mul_(8.0)
    return made
