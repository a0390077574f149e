"""Words, in scripts with blanks between them and in those without (Chinese, Japanese, Thai, Lao, Khmer, Burmese, …).

Where nothing marks the end of a word, so many letters count as one as a word has on average: two of Chinese and
Japanese, three of the others, each with the marks above and below it. That serves limits of length, and no letter is
cut apart; where a word really ends is not known.
"""

import re
import unicodedata
from itertools import islice, takewhile

_HAN = (
    r"\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    r"\U00020000-\U0003ffff"
)
_ABUGIDA = r"\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u1980-\u19df\u1a20-\u1aaf\ua980-\ua9ff\uaa60-\uaa7f"
# A vowel that stands before its consonant, the consonant, others stacked below it, marks.
_LETTER = rf"[\u0e40-\u0e44\u0ec0-\u0ec4]?[{_ABUGIDA}](?:[\u17d2\u1039][{_ABUGIDA}]|[^\w\s])*"
_WORD = re.compile(rf"[^\w\s]*(?:[{_HAN}]{{1,2}}[^\w\s]*|(?:{_LETTER}){{1,3}})|[^\s{_HAN}{_ABUGIDA}]+")
_UNSPACED = re.compile(rf"[{_HAN}{_ABUGIDA}]")
_RUN = re.compile(rf"([{_HAN}{_ABUGIDA}]+)|[^\s{_HAN}{_ABUGIDA}]+")


def split_words(text: str) -> list[str]:
    """The words of a text with the punctuation at them; without unspaced scripts the same as ``text.split()``.

    >>> split_words("a good film"), split_words("我喜欢这部电影。")
    (['a', 'good', 'film'], ['我喜', '欢这', '部电', '影。'])
    """
    return text.split() if text.isascii() else _WORD.findall(text)


def word_count(text: str) -> int:
    """How many words a text has."""
    return len(split_words(text))


def word_ends(text: str) -> list[int]:
    """Where each word of a text ends: the places at which it may be cut."""
    return [found.end() for found in _WORD.finditer(text)]


def beginning(text: str, count: int) -> str:
    """The first ``count`` words as they stand in the text.

    >>> beginning("one  two three", 2), beginning("我喜欢这部电影。", 2)
    ('one  two', '我喜欢这')
    """
    ends = [found.end() for found in islice(_WORD.finditer(text), count)]
    return text[: ends[-1]] if ends else ""


def within(text: str, characters: int) -> str:
    """At most ``characters`` of a text, ending with a whole word unless the first is longer.

    >>> within("one two three", 9), within("我喜欢这部电影。", 5)
    ('one two', '我喜欢这')
    """
    if len(text) <= characters:
        return text
    ends = takewhile(lambda end: end <= characters, (found.end() for found in _WORD.finditer(text)))
    return text[: max(ends, default=characters)].rstrip()


def terms(text: str) -> set[str]:
    """What texts on one subject share: words of three letters and more; of unspaced scripts each two neighbours.

    >>> sorted(terms("Red tea!")), sorted(terms("红茶杯"))
    (['red', 'tea'], ['红茶', '茶杯'])
    """
    found: set[str] = set()
    for run in _RUN.finditer(_plain(text)):
        piece = run[0]
        if run[1]:
            found |= {piece[at : at + 2] for at in range(max(1, len(piece) - 1))}
        elif len(piece) > 2 and not piece.isdecimal():
            found.add(piece)
    return found


def mentions(text: str, title: str) -> bool:
    """Whether ``title`` stands in ``text`` as whole words, in any case, punctuation and width of letters.

    In an unspaced script it may stand anywhere, but a title of one letter must stand alone.

    >>> mentions("a film like the heat.", "Heat"), mentions("a wheat field", "Heat")
    (True, False)
    >>> mentions("我喜欢英雄这部电影", "英雄"), mentions("他很热情", "热"), mentions("像《热》一样", "热")
    (True, False, True)
    """
    wanted, told = _plain(title), _plain(text)
    if len(wanted) > 1:
        wanted, told = (" ".join(_UNSPACED.sub(r" \g<0> ", one).split()) for one in (wanted, told))
    return bool(wanted) and f" {wanted} " in f" {told} "


class _Plain(dict[int, str | None]):
    """For `str.translate`: letters, digits and marks stay, invisible characters go, all else is a blank."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        self[code] = chr(code) if kind[0] in "LNM" else None if kind == "Cf" else " "
        return self[code]


_PLAIN = _Plain()


def _plain(text: str) -> str:
    """Lower case without punctuation, in one spelling, single blanks."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_PLAIN).split())
