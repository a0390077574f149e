"""Counting the tokens of a text, and cutting it to a number of them."""

import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.words import word_ends

Count = Callable[[str], int]
"""Tokens of a text."""

_PIECE = re.compile(r"[a-zA-Z]+|\S|\n")


def estimated_tokens(text: str) -> int:
    """About the tokens of a text, rather too many: one for each three letters begun, digit, sign, line break.

    What is not ASCII counts one for each of its bytes.

    >>> estimated_tokens("A Cleansing gel, 250 ml")
    10
    """
    return sum(_tokens(piece) for piece in _PIECE.findall(text))


def _tokens(piece: str) -> int:
    return (len(piece) + 2) // 3 if piece.isascii() else len(piece.encode())


def counter(tokenizer: str | None) -> Count:
    """Counts with the tokenizer of a model's folder, or estimates where none is given."""
    if tokenizer is None:
        return estimated_tokens
    file = Path(tokenizer).expanduser() / "tokenizer.json"
    if not file.is_file():
        raise GreamError(f"--tokenizer {tokenizer} has no tokenizer.json: give the folder of a Hugging Face model")
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise GreamError(f"{file} is not a tokenizer ({str(error)[:80]}): get it again") from None
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def fitted(text: str, tokens: int, count: Count) -> str:
    """The longest beginning of ``text`` in whole words that has at most ``tokens`` tokens; may be empty.

    >>> fitted("soft and warm", 3, estimated_tokens)
    'soft and'
    """
    if count(text) <= tokens:
        return text
    ends = [0, *word_ends(text)]
    return text[: ends[bisect_right(ends, tokens, lo=1, key=lambda end: count(text[:end])) - 1]]
