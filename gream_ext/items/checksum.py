"""The hash of a file, in the file itself, so that whatever happens to the file is noticed."""

import hashlib
import re
from pathlib import Path

from gream_ext.errors import GreamError

EMPTY = "0" * 64
FIELD = "seal"
"""The key of the hash in the file's metadata."""
_HASH = re.compile(rb'\\?"' + FIELD.encode() + rb'\\?": ?\\?"([0-9a-f]{64})\\?"')


def write_checksum(path: Path) -> None:
    """Write the file's SHA-256 in place of the one ``"seal": "000…"`` that stands in its metadata.

    The hash is that of the file with the zeros.
    """
    content = path.read_bytes()
    spans = [match.span(1) for match in _HASH.finditer(content)]
    if len(spans) != 1:
        raise ValueError(f"{path} has {len(spans)} fields {FIELD!r}")
    start, end = spans[0]
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content[:start] + digest + content[end:])


def check_checksum(path: Path, made_by: str) -> None:
    """`GreamError` for a file whose hash is not the one in it; one without is passed."""
    content = path.read_bytes()
    spans = [match.span(1) for match in _HASH.finditer(content)]
    if len(spans) != 1:
        return
    start, end = spans[0]
    found = hashlib.sha256(content[:start] + EMPTY.encode() + content[end:]).hexdigest()
    if found.encode() != content[start:end]:
        raise GreamError(
            f"{path} is damaged: its {len(content):,} bytes do not have the hash that was written into it. "
            f"Get it again, or run `gream {made_by}` again"
        )
