"""What all arms of the decoding benchmark share: one folder with model, tokenizer, trie and prompts.

A randomly initialised Qwen3 (hidden 512, 8 layers, 8 heads, 4 key-value heads), a vocabulary of 151,936 tokens and the
identifiers of 12,101 items of Amazon Beauty, four levels of 256 codes and a conflict slot, where that data is here
(``GREAM_SHARED_DATA``); otherwise random codes that collide about as much.
"""

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.decoding.trie import ItemTrie
from gream_ext.identifiers import vocabulary
from gream_ext.items.conflict import add_conflict_slot

SHARED = Path(os.environ.get("GREAM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
VOCABULARY, ITEMS, LEVELS, SIZE = 151_936, 12_101, 4, 256
PROMPTS, LENGTH, HISTORY, BEAMS = 8, 130, 20, 20
MARKERS = ("<think>", "</think>", "<answer>", "</answer>")
END, PAD = 0, 1


def codes() -> tuple[np.ndarray, tuple[int, ...], str]:
    """Codes int32 [items, 5], how many each level may take, and where they are from."""
    file = SHARED / "beauty" / "semantic_ids.jsonl.gz"
    if file.exists():
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line)["rkmeans_4x256"] for line in lines]
        levels = np.array([[int(re.sub(r"\D", "", token)) for token in row] for row in rows])
        about = "identifiers of Amazon Beauty (rkmeans_4x256)"
    else:
        levels = synthetic_codes(ITEMS)
        about = "synthetic identifiers"
    return *add_conflict_slot(levels, [SIZE] * LEVELS), about


def synthetic_codes(items: int, seed: int = 0) -> np.ndarray:
    """int64 [items, 4]: clusters of very different sizes, as residual k-means makes them; some items collide."""
    chance = np.random.default_rng(seed)
    found = np.zeros((items, LEVELS), dtype=np.int64)
    for level, sharpness in enumerate((1.0, 2.0, 4.0, 4.0)):
        # The codes that follow a prefix: a few likely ones, others for another prefix.
        likely = np.minimum(chance.exponential(SIZE / 4 / sharpness, items), SIZE - 1).astype(np.int64)
        turn = (found[:, :level] * np.array([31, 57, 101])[:level]).sum(1)
        found[:, level] = (likely + turn) % SIZE
    return found


def make(folder: Path) -> str:
    """Write model/, trie.safetensors and prompts.json; a sentence about the catalogue."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from gream_ext.base_model.tokenizer import add_ordinary_tokens

    (folder / "model").mkdir(parents=True)
    full, sizes, about = codes()
    tokenizer = words_tokenizer()
    add_ordinary_tokens(tokenizer, vocabulary(sizes))
    ids = VOCABULARY + np.cumsum([0, *sizes[:-1]]) + full
    ItemTrie.build(ids).save(folder / "trie.safetensors")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = Qwen3ForCausalLM(config)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "prompts.json").write_text(json.dumps(prompts(ids)))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"{len(ids):,} {about}; {parameters / 1e6:.1f} M parameters, {len(tokenizer):,} tokens"


def prompts(ids: np.ndarray) -> list[list[int]]:
    """A history of 20 items between words, 130 tokens."""
    chance = np.random.default_rng(0)
    words = chance.integers(10, VOCABULARY - 10, (PROMPTS, LENGTH - HISTORY * ids.shape[1]))
    histories = ids[chance.integers(0, len(ids), (PROMPTS, HISTORY))].reshape(PROMPTS, -1)
    return np.concatenate([words[:, :-5], histories, words[:, -5:]], axis=1).tolist()


def words_tokenizer() -> Any:
    """151,936 tokens, each a word; the last four are the markers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<end>", "<pad>", *(f"w{number}" for number in range(2, VOCABULARY - len(MARKERS))), *MARKERS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w2"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def allowed_by_hash(ids: np.ndarray, prompt_length: int) -> Callable[[int, Any], list[int]]:
    """What everybody writes for ``prefix_allowed_tokens_fn``: a dictionary from prefix to the tokens that follow."""
    follows: dict[tuple[int, ...], set[int]] = {}
    for identifier in ids.tolist():
        for level in range(len(identifier)):
            follows.setdefault(tuple(identifier[:level]), set()).add(identifier[level])
    lists = {prefix: sorted(tokens) for prefix, tokens in follows.items()}
    return lambda batch, sentence: lists.get(tuple(sentence[prompt_length:].tolist()), [END])
