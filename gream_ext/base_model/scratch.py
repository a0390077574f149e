"""A small Qwen3 from scratch and the text that its tokenizer is trained on."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gream_ext.corpus.files import read_rows
from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.corpus.prompts import fixed_texts
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from gream_ext.base_model.build import BaseModelSettings

REASON_ROWS = 4000
"""Reasoning rows that the tokenizer is trained on."""
WORDING_WEIGHT = 100
"""How often each template counts: fixed wording must become whole tokens before any title does."""


def tokenizer_texts(workspace: Workspace) -> Iterator[str]:
    """Wordings, reasoning rows and each item's words once; nothing else of the interactions.

    Alignment rows take the place of reasoning rows where a model shall learn those alone.
    """
    from gream_ext.corpus.catalogue import Catalogue

    wordings = [*fixed_texts(read_prompt_settings(workspace).words), "system\n", "user\n", "assistant\n", "\n"]
    for _ in range(WORDING_WEIGHT):
        yield from wordings
    rows = lesson_rows(workspace)
    for row in islice(read_rows(rows, f"corpus {rows.stem}"), REASON_ROWS):
        for message in row["messages"]:
            yield message["content"]
    for item in Catalogue.load(workspace).items:
        yield item.text
        yield ", ".join(item.traits)


def lesson_rows(workspace: Workspace) -> Path:
    """The rows whose text the tokenizer is trained on: reasoning data, or alignment data where there are no others."""
    return workspace.align if workspace.align.exists() and not workspace.reason.exists() else workspace.reason


def small_qwen3(tokenizer: "PreTrainedTokenizerFast", settings: "BaseModelSettings") -> "PreTrainedModel":
    """A randomly initialised Qwen3 with one embedding row for each token; the same for the same seed."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    known: dict[str, Any] = {
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.hidden_size // settings.heads,
        "intermediate_size": settings.intermediate_size,
        "max_position_embeddings": settings.longest,
        "vocab_size": len(tokenizer),
        "attention_dropout": settings.attention_dropout,
        "tie_word_embeddings": settings.tied,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Qwen3ForCausalLM(Qwen3Config(**known))
