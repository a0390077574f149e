"""One run at a time in a workspace."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace


@contextmanager
def lock(workspace: Workspace) -> Iterator[None]:
    """Hold the workspace, for the process that calls.

    The lock is the kernel's (POSIX, so it also holds on network file systems): it ends with the process however that
    ends, and children do not inherit it. A dead process therefore never leaves a lock, only a file.

    Raises:
        GreamError: if another process holds it.
    """
    path = workspace.path(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise GreamError(f"{path} cannot be written ({error.strerror}): name another --workspace") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise GreamError(
                f"{workspace.root} is in use by {_holder(path.read_text())}: wait for it or stop it"
            ) from None
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        about = json.loads(text)
        return f"process {about['process']} on {about['host']}"
    except (ValueError, KeyError, TypeError):
        return "another run"
