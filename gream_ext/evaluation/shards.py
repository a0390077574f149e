"""Work in pieces that survive an interruption, in this process or in several."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import polars as pl

from gream_ext.data.histories import Case
from gream_ext.errors import GreamError
from gream_ext.evaluation.answers import Task, answer, load
from gream_ext.evaluation.files import EVALUATION
from gream_ext.inference.export_format import sha256
from gream_ext.inference.modes import Modes
from gream_ext.workspace import read_table, write_table


def identity(about: Mapping[str, Any], inputs: Sequence[Path]) -> str:
    """A hash of what is evaluated and how, and of the contents of the input files."""
    described = json.dumps([about, [sha256(path) for path in inputs]], sort_keys=True, default=str)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


class Shards:
    """Finished pieces of an evaluation, one Parquet file each, in a folder beside its result.

    The folder's name holds the `identity` of what is evaluated; pieces of another one are thrown away.
    """

    def __init__(self, path: Path, key: str):
        self.folder = path.with_name(f".{path.name}.{key}")
        for other in path.parent.glob(f".{path.name}.*"):
            if other != self.folder and other.is_dir() and not other.name.endswith(".part"):
                shutil.rmtree(other, ignore_errors=True)

    def read(self, number: int, cases: Sequence[Case]) -> pl.DataFrame | None:
        """A finished piece, or None where there is none, or one of other users."""
        try:
            rows = read_table(self._file(number), EVALUATION, "evaluate")
        except GreamError:
            return None
        return rows if rows["user_id"].to_list() == [case.user_id for case in cases] else None

    def write(self, number: int, rows: pl.DataFrame) -> pl.DataFrame:
        """Keep a piece; returns it with the columns' types."""
        write_table(rows, self._file(number), EVALUATION)
        return read_table(self._file(number), EVALUATION, "evaluate")

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"


def answer_all(task: Task, pieces: Mapping[int, Sequence[Case]]) -> Iterator[tuple[int, pl.DataFrame]]:
    """Answer each piece, in whatever order they are ready; what comes out does not depend on the processes."""
    if not pieces:
        return
    processes = min(task.settings.processes, len(pieces))
    if processes == 1:
        modes = load(task)
        for number, cases in pieces.items():
            yield number, answer(modes, task, cases)
        return
    before = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=(task,)
    )
    try:
        waiting = {executor.submit(_answer, cases): number for number, cases in pieces.items()}
        while waiting:
            # With Polars' handler of Ctrl-C a wait without a timeout cannot be interrupted.
            for future in wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise GreamError(
            "a worker ended by itself, for want of memory perhaps: evaluate again with fewer --processes"
        ) from None
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


_worker: tuple[Modes, Task] | None = None


def _begin(task: Task) -> None:
    """In a worker: load the model, leave Ctrl-C to the parent, and end when the parent is gone."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    _worker = load(task), task


def _end_after(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _answer(cases: Sequence[Case]) -> pl.DataFrame:
    if _worker is None:
        raise RuntimeError("this worker was not begun")
    return answer(*_worker, cases)
