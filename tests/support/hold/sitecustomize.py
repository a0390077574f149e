"""TEST SUPPORT ONLY: a program is held at a certain place, until it is killed. Never part of the package.

Python runs this file at its start when this folder stands on ``PYTHONPATH``. Whoever is about to make the folder that
``GREAM_TEST_HOLD`` names makes the file of that name with ``.held`` instead, and waits for ever.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any


def hold(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "os.mkdir" and os.fspath(arguments[0]) == os.environ.get("GREAM_TEST_HOLD"):
        Path(f"{arguments[0]}.held").touch()
        while True:
            time.sleep(60)


sys.addaudithook(hold)
