"""Made-up rows and a tiny model for the way to each framework's first step with us, which `gream doctor` goes.

All names that we rely on can be there and the first step still fail, for frameworks import other packages when they
are used. So `gream_ext.plugins.llamafactory.first_step` really trains two steps of the curriculum, and
`gream_ext.plugins.verl.first_step` reads prompts, scores answers and computes the advantages of a group. On the CPU,
in seconds, within a folder of their own.
"""

from pathlib import Path
from typing import Any

from gream_ext.base_model.scratch import Shape, small_qwen3
from gream_ext.base_model.tokenizer import add_ordinary_tokens, chat_tokenizer, train_bpe

ITEMS = [f"<|a_{first}|><|b_{second}|>" for first in range(4) for second in range(4)]
TOKENS = [f"<|{level}_{code}|>" for level in "ab" for code in range(4)]


def chat(item: str, answer: str = "") -> list[dict[str, str]]:
    return [{"role": "user", "content": f"history: {item}"}, {"role": "assistant", "content": f"next: {answer}"}]


def write_model(folder: Path) -> Any:
    """A model of a few thousand random weights, and its tokenizer, which is returned."""
    tokenizer = chat_tokenizer(train_bpe(["history: ", "next: "], 300, across_words=False), 64)
    add_ordinary_tokens(tokenizer, TOKENS)
    shape = Shape(16, 1, 4, 2, 16, attention_dropout=0.0, tied=True, longest=64)
    small_qwen3(tokenizer, shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
