"""A seal: the hash of a file, in the file itself, so that whatever happens to the file is noticed."""

import hashlib
import re
from pathlib import Path

from gream_ext.errors import GreamError

EMPTY = "0" * 64
FIELD = "seal"
_SEAL = re.compile(rb'\\?"' + FIELD.encode() + rb'\\?": ?\\?"([0-9a-f]{64})\\?"')


def seal(path: Path) -> None:
    """Write the file's SHA-256 in place of the one ``"seal": "000…"`` that stands in its metadata.

    The hash is that of the file with the zeros.
    """
    content = path.read_bytes()
    places = [match.span(1) for match in _SEAL.finditer(content)]
    if len(places) != 1:
        raise ValueError(f"{path} has {len(places)} places for a seal")
    start, end = places[0]
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content[:start] + digest + content[end:])


def check_seal(path: Path, made_by: str) -> None:
    """`GreamError` for a file that is not as it was sealed; one without a seal is passed."""
    content = path.read_bytes()
    places = [match.span(1) for match in _SEAL.finditer(content)]
    if len(places) != 1:
        return
    start, end = places[0]
    found = hashlib.sha256(content[:start] + EMPTY.encode() + content[end:]).hexdigest()
    if found.encode() != content[start:end]:
        raise GreamError(
            f"{path} is damaged: its {len(content):,} bytes do not have the hash that was written into it. "
            f"Get it again, or run `gream {made_by}` again"
        )
