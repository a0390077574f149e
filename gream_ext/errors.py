"""The errors that users see."""

import difflib
from collections.abc import Iterable
from typing import Any


class GreamError(Exception):
    """Something the user can mend: one line that names the file, the row or option, and the cure.

    The command line prints it without a traceback and exits with code 2.
    """


class ModelFault(GreamError):
    """The model computes what cannot be right: no mistake of whoever asks it, but of whoever made it."""


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """What to say of a word that is not known: the nearest that is, or all that are."""
    names = list(known)
    near = difflib.get_close_matches(str(word), names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}"
