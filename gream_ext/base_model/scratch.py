"""A small Qwen3 from scratch and the text that its tokenizer is trained on."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from gream_ext.base_model.tokenizer import chat_tokenizer, train_bpe
from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.files import read_rows
from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.corpus.prompts import fixed_texts
from gream_ext.workspace import Workspace

MOST_ROWS = 4000
"""Rows that the tokenizer is trained on, at most."""
WORDING_WEIGHT = 100
"""How often each template counts: fixed wording must become whole tokens before any title does."""


def tokenizer_texts(workspace: Workspace, rows: Path) -> Iterator[str]:
    """Wordings, what people and model say in ``rows``, and each item's words once; nothing else of the interactions."""
    wordings = [*fixed_texts(read_prompt_settings(workspace).words), "system\n", "user\n", "assistant\n", "\n"]
    for _ in range(WORDING_WEIGHT):
        yield from wordings
    for row in islice(read_rows(rows, f"corpus {rows.stem}"), MOST_ROWS):
        for message in row["messages"]:
            yield message["content"]
    for item in Catalogue.load(workspace).items:
        yield item.text
        yield ", ".join(item.traits)


@dataclass(frozen=True)
class Shape:
    """Of a model from scratch: sizes as `transformers.Qwen3Config` has them, and the seed of its weights."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    intermediate_size: int
    attention_dropout: float
    tied: bool
    longest: int
    seed: int = 0


def make_small(
    workspace: Workspace, rows: Path, shape: Shape, vocabulary_size: int, across_words: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A small Qwen3 and a tokenizer trained on the workspace's own text, without identifier tokens."""
    bpe = train_bpe(tokenizer_texts(workspace, rows), vocabulary_size, across_words)
    tokenizer = chat_tokenizer(bpe, shape.longest)
    return small_qwen3(tokenizer, shape), tokenizer


def small_qwen3(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> PreTrainedModel:
    """A randomly initialised Qwen3 with one embedding row for each token; the same for the same seed."""
    known: dict[str, Any] = {
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden_size // shape.heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.longest,
        "vocab_size": len(tokenizer),
        "attention_dropout": shape.attention_dropout,
        "tie_word_embeddings": shape.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        return Qwen3ForCausalLM(Qwen3Config(**known))
