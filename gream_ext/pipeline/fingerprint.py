"""What is in a file or folder, as one hash; a file whose size and time did not change is not read again."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Fingerprint = dict[str, Any]
"""``{"sha256": str, "files": {name: [size, mtime_ns, sha256]}}``; a file's own name in it is ``""``."""


def fingerprint(path: Path, known: Mapping[str, Any] | None = None) -> Fingerprint | None:
    """The contents of a file, or of all files below a folder with their names; None if there is nothing.

    ``known`` is an earlier fingerprint of the same path, whose hashes are taken where size and time of change agree.
    """
    if path.is_dir():
        found = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        names = sorted(name for name in found if not re.search(r"(^|/)\.[^/]*\.part/", name))  # drafts: `whole`
    elif path.exists():
        names = [""]
    else:
        return None
    earlier = (known or {}).get("files", {})
    files = {name: _file(path / name if name else path, earlier.get(name)) for name in names}
    if path.is_dir():
        listing = "".join(f"{name}\0{entry[2]}\n" for name, entry in files.items())
        whole = hashlib.sha256(listing.encode()).hexdigest()
    else:
        whole = files[""][2]
    return {"sha256": whole, "files": files}


def _file(path: Path, known: list[Any] | None) -> list[Any]:
    about = path.stat()
    if known and known[:2] == [about.st_size, about.st_mtime_ns]:
        return list(known)
    with path.open("rb") as file:
        return [about.st_size, about.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]


def digest(value: Fingerprint | None) -> str | None:
    """The one hash of a fingerprint."""
    return value["sha256"] if value else None
