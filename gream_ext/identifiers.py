"""An item identifier as text: one token per level, ``<|a_12|><|b_3|>…``.

An identifier is a tuple of token strings, level by level. Level 0 is written ``a``,
level 1 ``b`` and so on; the conflict slot is simply the last level. Codes count from 0.
"""

import re
from collections.abc import Iterable, Sequence

Identifier = tuple[str, ...]

LEVEL_LETTERS = "abcdefghijklmnopqrstuvwxyz"
IDENTIFIER_TOKENS = re.compile(r"(?:<\|[a-z]_\d+\|>)+")
"""What looks like identifier tokens, one after another, in a text; `find_all` says what they spell."""
_CODE = "(?:0|[1-9][0-9]*)"
_TOKEN = re.compile(rf"<\|[a-z]_{_CODE}\|>")
# The levels in order, each in an optional group that the one before it opens: a(?:b(?:c)?)?
_IDENTIFIER = re.compile(
    "(?:".join(rf"<\|{letter}_{_CODE}\|>" for letter in LEVEL_LETTERS) + ")?" * (len(LEVEL_LETTERS) - 1)
)


def token(level: int, code: int) -> str:
    """The token of one code.

    >>> token(0, 12)
    '<|a_12|>'
    """
    return f"<|{LEVEL_LETTERS[level]}_{code}|>"


def tokens(codes: Iterable[int]) -> Identifier:
    """The identifier of a row of codes, one token per level.

    >>> tokens([12, 3])
    ('<|a_12|>', '<|b_3|>')
    """
    return tuple(token(level, code) for level, code in enumerate(codes))


def parse(text: str) -> Identifier | None:
    """The identifier that ``text`` spells, or None unless it is one and nothing else.

    The levels must come in order from ``a`` without a gap.

    >>> parse("<|a_12|><|b_3|>")
    ('<|a_12|>', '<|b_3|>')
    >>> parse("<|b_3|><|a_12|>") is None
    True
    """
    return tuple(_TOKEN.findall(text)) if _IDENTIFIER.fullmatch(text) else None


def find_all(text: str) -> list[Identifier]:
    """Every identifier in ``text``, in order; a token of level ``a`` starts a new one.

    Tokens that do not continue the identifier before them are passed over.

    >>> find_all("bought <|a_1|><|b_2|>, <|a_3|><|b_4|>")
    [('<|a_1|>', '<|b_2|>'), ('<|a_3|>', '<|b_4|>')]
    """
    found: list[list[str]] = []
    end = -1
    for match in _TOKEN.finditer(text):
        written = match.group()
        letter = written[2]
        if letter == LEVEL_LETTERS[0]:
            found.append([written])
        elif found and match.start() == end and letter == LEVEL_LETTERS[len(found[-1]) :][:1]:
            found[-1].append(written)
        else:
            continue
        end = match.end()
    return [tuple(identifier) for identifier in found]


def vocabulary(sizes: Sequence[int]) -> list[str]:
    """All tokens of levels with the given sizes, level by level.

    >>> vocabulary([2, 1])
    ['<|a_0|>', '<|a_1|>', '<|b_0|>']
    """
    return [token(level, code) for level, size in enumerate(sizes) for code in range(size)]
