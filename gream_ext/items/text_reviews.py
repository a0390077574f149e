"""The reviews in an item's composite text, cut to a budget of tokens."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from gream_ext.errors import GreamError
from gream_ext.words import word_ends

HEAD = "review: "
Count = Callable[[str], int]
"""Tokens of a text."""
_PIECE = re.compile(r"[a-zA-Z]+|\S|\n")


def review_lines(reviews: Sequence[str], tokens: int, count: Count) -> list[str]:
    """One line a review, in their order, together (with line breaks) at most ``tokens`` tokens.

    Each may take an equal share of what is left, so that a short one leaves more to the next. What does not fit
    is cut off after a whole word; the line of a review of which nothing fits is empty.

    >>> review_lines(["Soft and warm. I love it.", "Too thin."], 8, lambda text: len(text.split()))
    ['review: Soft and warm.', 'review: Too thin.']
    """
    lines: list[str] = []
    for rank, review in enumerate(reviews):
        left = tokens - count("".join(f"{line}\n" for line in lines if line))
        share = left // (len(reviews) - rank)
        line = fitted(HEAD + review, share - count("\n"), count)
        lines.append(line if len(line) > len(HEAD) else "")
    return lines


def fitted(text: str, tokens: int, count: Count) -> str:
    """The longest beginning of ``text`` in whole words that has at most ``tokens`` tokens; may be empty.

    >>> fitted("soft and warm", 3, estimated_tokens)
    'soft and'
    """
    if count(text) <= tokens:
        return text
    ends = [0, *word_ends(text)]
    return text[: ends[bisect_right(ends, tokens, lo=1, key=lambda end: count(text[:end])) - 1]]


def estimated_tokens(text: str) -> int:
    """About the tokens of a text, rather too many: one for each three letters begun, digit, sign, line break.

    What is not ASCII counts one for each of its bytes.

    >>> estimated_tokens("A Cleansing gel, 250 ml")
    10
    """
    pieces = _PIECE.findall(text)
    return sum((len(piece) + 2) // 3 if piece.isascii() else len(piece.encode()) for piece in pieces)


def counter(tokenizer: str | None) -> Count:
    """Counts with the tokenizer of a model's folder, or estimates where none is given."""
    if tokenizer is None:
        return estimated_tokens
    file = Path(tokenizer).expanduser() / "tokenizer.json"
    if not file.is_file():
        raise GreamError(f"--tokenizer {tokenizer} has no tokenizer.json: give the folder of a Hugging Face model")
    try:
        loaded = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain Exception
        raise GreamError(f"{file} is not a tokenizer ({str(error)[:80]}): get it again") from None
    loaded.no_truncation()
    loaded.no_padding()
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)
