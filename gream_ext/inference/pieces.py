"""A response as it grows: text that can be shown, and identifiers as items as soon as they are complete."""

import re
from collections.abc import Callable, Iterator

from gream_ext.identifiers import IDENTIFIER_TOKENS, Identifier, find_all
from gream_ext.inference.questions import Item, Text

ItemOf = Callable[[Identifier], Item | None]
UNFINISHED = re.compile(r"(?:<\|[a-z]_\d+\|>)*(?:<(?:\|[a-z_\d|]*)?)?$")
"""What the text to come may still turn into an identifier, or into a longer one."""


class Pieces:
    """Takes a response's text so far, again and again, and gives what is new and certain.

    ``item_of`` finds the item that an identifier names; ``levels`` is the length of the longest identifier.
    """

    def __init__(self, item_of: ItemOf, levels: int):
        self.item_of, self.levels = item_of, levels
        self._shown = 0

    def grow(self, text: str, ended: bool = False) -> Iterator[Text | Item]:
        """What of ``text``, the whole response so far, was not given yet."""
        end = len(text) if ended else self._certain(text)
        # The last character may be half of one that takes several tokens.
        if not ended and text[:end].endswith("\ufffd"):
            end -= 1
        part, self._shown = text[self._shown : end], max(self._shown, end)
        place = 0
        for match in IDENTIFIER_TOKENS.finditer(part):
            items = [self.item_of(identifier) for identifier in find_all(match.group())]
            if items and all(item is not None for item in items):
                if match.start() > place:
                    yield Text(part[place : match.start()])
                yield from (item for item in items if item is not None)
                place = match.end()
        if place < len(part):
            yield Text(part[place:])

    def _certain(self, text: str) -> int:
        """Where the part begins that the text to come may still change."""
        tail = UNFINISHED.search(text, self._shown)
        if tail is None or not tail.group():
            return len(text)
        known = find_all(tail.group())
        if known and len(known[-1]) == self.levels and "".join(known[-1]) == tail.group()[-len("".join(known[-1])) :]:
            return len(text)
        return tail.start()
