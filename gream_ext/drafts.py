"""Files and folders that are written whole or not at all, and what a killed writer leaves of them."""

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UMASK = os.umask(0)
os.umask(UMASK)
DRAFT = ".part"
RUST_ERROR = re.compile(r"\(os error (\d+)\)")
DRAFTS = re.compile(r"\..+\.part")
REPLACED = ".replaced"
"""Where a folder waits for the one that takes its place."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """What goes wrong on the disk, a full one above all, is an `OSError` that names ``path``.

    A failed write names no file, libraries in Rust (Polars, safetensors) raise errors of their own, and NumPy says how
    much it wrote.
    """
    try:
        yield
    except Exception as error:
        said = RUST_ERROR.search(str(error))
        if getattr(error, "filename", None) is not None or not (said or isinstance(error, OSError)):
            raise
        number = int(said[1]) if said else getattr(error, "errno", None)
        raise OSError(number or errno.EIO, os.strerror(number) if number else str(error), str(path)) from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write a file or folder whole or not at all.

    Yields a path beside ``path`` to write to; it takes the place of ``path`` when the block
    ends well and is removed when it does not. What a killed writer leaves, `sweep_drafts` removes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder, held = _draft_folder(path)
    draft = folder / path.name
    try:
        with naming(path):
            yield draft
        _give_usual_modes(draft)
        if draft.is_dir() and path.is_dir():
            os.replace(path, folder / REPLACED)
        os.replace(draft, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _give_usual_modes(draft: Path) -> None:
    """What the umask says, for libraries that write for their user alone (safetensors does)."""
    for path in (draft, *(draft.rglob("*") if draft.is_dir() else ())):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | ((0o777 if path.is_dir() else 0o666) & ~UMASK))


def _draft_folder(path: Path) -> tuple[Path, int]:
    """A new folder beside ``path``, and the descriptor whose lock says that its writer lives."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=DRAFT, dir=path.parent))
        try:
            held = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # swept already
            continue
        with suppress(OSError):  # a file system without locks, where nothing is swept
            fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)  # swept before it was locked


def sweep_drafts(root: Path) -> list[Path]:
    """Remove the drafts below ``root`` whose writers are dead, and return what they were to become.

    A writer that was killed between putting the old folder aside and the new one in its place is finished instead.
    """
    swept = []
    # Not rglob, which fails where a folder goes meanwhile.
    found = [Path(folder, name) for folder, names, _ in os.walk(root) for name in names if DRAFTS.fullmatch(name)]
    for folder in found:
        try:
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for draft in folder.iterdir():
                path = folder.parent / draft.name
                if draft.name != REPLACED and (folder / REPLACED).exists() and not path.exists():
                    os.replace(draft, path)
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.with_name(folder.name[1:].removesuffix(DRAFT).rpartition(".")[0]))
        except OSError:  # its writer lives
            continue
        finally:
            os.close(held)
    return swept
