"""A policy of a few thousand weights for reinforcement tests: it answers, and is right now and then.

Direct mode only: the response is an identifier of three levels with two codes each, so that a
policy which has learnt no more than the form is exactly right one time in eight.
"""

import random
from itertools import product
from pathlib import Path

LEVELS, CODES = 3, 2
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def identifier(chance: random.Random) -> str:
    return "".join(f"<|{'abc'[level]}_{chance.randrange(CODES)}|>" for level in range(LEVELS))


def write_policy(folder: Path, steps: int = 40, seed: int = 0) -> Path:
    """A Qwen3 with its tokenizer, trained on the form of an answer for ``steps`` steps."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        ["What comes next?"], trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=special)
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokens = [f"<|{letter}_{code}|>" for letter in "abc" for code in range(CODES)]
    marks = ["<think>", "</think>", "<answer>", "</answer>"]
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in [*marks, *tokens]])
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=None,
        )
    )
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(steps):
        rows = [_prompt_ids(tokenizer, chance) + _answer_ids(tokenizer, chance) for _ in range(16)]
        batch = torch.tensor(rows)
        labels = batch.clone()
        labels[:, : -LEVELS - 1] = -100
        model(input_ids=batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_prompts(path: Path, rows: int, seed: int = 0, wrong: int = 0) -> Path:
    """Rows for verl; the target is the item of the history.

    The first ``wrong`` are of reason mode, in which this policy never gives an answer that counts.
    """
    import polars as pl

    chance = random.Random(f"prompts {seed}")
    table = []
    for number in range(rows):
        target = identifier(chance)
        table.append(
            {
                "data_source": "gream",
                "prompt": _messages(target),
                "ability": "recommendation",
                "reward_model": {"style": "rule", "ground_truth": target},
                "extra_info": {
                    "mode": "reason" if number < wrong else "direct",
                    "user_id": f"u{number}",
                    "index": number,
                    "split": path.stem,
                },
            }
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(table).write_parquet(path)
    return path


def write_index(path: Path) -> Path:
    """The item index of all items that the policy can name."""
    import numpy as np

    from gream_ext.items.index import ItemIndex

    codes = np.array(list(product(range(CODES), repeat=LEVELS)), dtype=np.int32)
    ItemIndex(tuple(f"i{row}" for row in range(len(codes))), codes, (CODES,) * LEVELS).save(path)
    return path


def _messages(history: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{history} What comes next?"}]


def _prompt_ids(tokenizer, chance: random.Random) -> list[int]:
    messages = _messages(identifier(chance))
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False))


def _answer_ids(tokenizer, chance: random.Random) -> list[int]:
    return [*tokenizer(identifier(chance), add_special_tokens=False).input_ids, tokenizer.eos_token_id]
