"""What we register in SGLang: beam search and answers over real items only.

SGLang calls `register`, the entry point of ours in its group ``sglang.srt.plugins``, in every process. It does
nothing unless the environment variable ``GREAM_SGLANG_TRIE`` names the trie of a catalogue; then it hooks what
`internals` lists, and a process that cannot be hooked ends instead of serving without the constraint.
"""

import os
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.inference.engines.sglang_request import TRIE_VARIABLE
from gream_ext.plugins.sglang import internals
from gream_ext.plugins.sglang.catalogue import Catalogue


def register() -> None:
    """Hook SGLang in this process where a catalogue is named.

    Raises:
        SystemExit: if the catalogue cannot be read, or SGLang is not the version that we hook. SGLang would log any
            other exception and go on without the constraint.
    """
    path = os.environ.get(TRIE_VARIABLE)
    if not path:
        return
    try:
        internals.check()
        from gream_ext.plugins.sglang import answers, beams

        catalogue = Catalogue.load(Path(path))
        beams.hook(catalogue)
        answers.hook(catalogue)
    except Exception as error:
        said = str(error) if isinstance(error, GreamError) else repr(error)
        raise SystemExit(f"gream_ext cannot constrain this SGLang to the items of {path}: {said}") from error


def problems() -> dict[str, str]:
    """What of ours cannot take place in the installed SGLang: part → ``""``, or a sentence that says why not."""
    found = {}
    for part in internals.NAMES:
        try:
            internals.check(part)
            found[part] = internals.entry_point_problem()
        except Exception as error:
            found[part] = str(error)
    return found
