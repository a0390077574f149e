"""Byte-level BPE tokenizers: trained on a workspace's own text, or put together from a vocabulary.

ChatML without a default system message: what LLaMA-Factory's template ``qwen3_nothink`` writes.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

WORDS = (
    r"\A, \z|'(?i:s|t|re|ve|m|ll|d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,4}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Pieces that a token stays within: words with the space before them. What stands between two identifiers is one."""
PHRASES = r"[,;:.!?()\[\]\"]+ ?|\s*[\r\n]+|[^,;:.!?()\[\]\"\r\n]+"
"""Pieces up to the next punctuation mark, so that a token may span words and a fixed phrase becomes one token."""
MARKED = re.compile(r"(?:<\|[a-z]+(?:_\w+)?\|>|</?[a-z]+>)+")
"""Added tokens in a text: BPE never sees them."""


def train_bpe(texts: Iterable[str], size: int, across_words: bool, least: int = 4) -> Tokenizer:
    """A byte-level BPE of at most ``size`` tokens, three special ones included; the same for the same texts.

    With ``across_words`` a token may span words within punctuation: regular wording becomes a few
    tokens. A pair is merged when it is seen ``least`` times or more.
    """
    tokenizer = Tokenizer(models.BPE())
    set_byte_level(tokenizer, PHRASES if across_words else WORDS)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=least,
        special_tokens=[END_OF_TEXT, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((part for text in texts for part in plain_parts(text)), trainer)
    return tokenizer


def plain_parts(text: str) -> Iterator[str]:
    """The text between added tokens.

    >>> list(plain_parts("<answer><|a_1|><|b_2|></answer>, so"))
    [', so']
    """
    return (part for part in MARKED.split(text) if part)


def set_byte_level(tokenizer: Tokenizer, pattern: str) -> None:
    """Cut text by ``pattern`` and work on bytes; decoding gives back exactly what was encoded."""
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()


def chat_tokenizer(tokenizer: Tokenizer, longest: int) -> PreTrainedTokenizerFast:
    """The tokenizer in Hugging Face form: ChatML, eos ``<|im_end|>``, pad ``<|endoftext|>``."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        chat_template=CHATML,
        model_max_length=longest,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def add_ordinary_tokens(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> None:
    """Add ``tokens`` as ordinary ones: special tokens would vanish when a response is decoded."""
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in tokens])
