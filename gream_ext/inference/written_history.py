"""How faithful a response was where it writes the user's history again."""

from gream_ext.identifiers import find_all
from gream_ext.items.index import ItemIndex
from gream_ext.response import DEFAULT_FORMAT


def written_history(index: ItemIndex, text: str) -> list[str | None]:
    """The items that a response names between its thinking and its answer, in order; None for what is no item.

    Beside the user's history they say how faithful it was. An identifier that was cut short is left out.
    """
    _, _, after = text.rpartition(DEFAULT_FORMAT.reasoning_end)
    written, answer, _ = after.partition(DEFAULT_FORMAT.answer_begin)
    named = [index.item(identifier) for identifier in find_all(written)]
    return named if answer or named[-1:] != [None] else named[:-1]
