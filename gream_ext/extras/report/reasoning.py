"""A response of reasoning mode for human eyes: its steps as paragraphs, its identifiers as titles."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from gream_ext.identifiers import IDENTIFIER_TOKENS, Identifier, find_all

TitleOf = Callable[[Identifier], str | None]
"""The title of the item that an identifier names, or None."""

HEADING = re.compile(r"^(Step \d+: [^:]{1,80}:)\s*(.*)$", re.S)
MARKERS = re.compile(r"</?(?:think|answer)>")


@dataclass(frozen=True)
class Span:
    text: str
    item: bool = False


@dataclass(frozen=True)
class Part:
    """One paragraph; ``answer`` is the one that recommends."""

    heading: str
    spans: list[Span]
    answer: bool = False


def spans(text: str, title_of: TitleOf) -> list[Span]:
    """Text with its identifiers replaced by titles; what names no item is left as it stands.

    >>> spans("bought <|a_1|><|b_2|>.", lambda identifier: "Velta")
    [Span(text='bought ', item=False), Span(text='Velta', item=True), Span(text='.', item=False)]
    """
    found: list[Span] = []
    end = 0
    for match in IDENTIFIER_TOKENS.finditer(text):
        if match.start() > end:
            found.append(Span(text[end : match.start()]))
        named = find_all(match.group())
        whole = bool(named) and "".join(token for identifier in named for token in identifier) == match.group()
        titles = [title_of(identifier) for identifier in named] if whole else []
        if titles and all(title is not None for title in titles):
            for place, title in enumerate(titles):
                found.extend([Span(" ")] if place else [])
                found.append(Span(str(title), item=True))
        else:
            found.append(Span(match.group()))
        end = match.end()
    if end < len(text):
        found.append(Span(text[end:]))
    return found


def parts(response: str, title_of: TitleOf) -> list[Part]:
    """The paragraphs of a response, without its markers; works on malformed ones too."""
    found = []
    for line in response.splitlines():
        text = MARKERS.sub("", line).strip()
        if not text:
            continue
        heading = HEADING.match(text)
        head, rest = heading.groups() if heading else ("", text)
        found.append(Part(head, spans(rest, title_of), answer="<answer>" in line))
    return found
