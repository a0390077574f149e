"""Beauty's whole alignment corpus, beside tokenizing it once: ``pytest tests/benchmarks -k corpus -s``.

``GREAM_BENCHMARK_EPOCHS=1,3`` are the numbers of epochs whose peak memory is compared; ``GREAM_SHARED_DATA`` has the
data.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gream_ext.corpus.files import read_rows
from gream_ext.data import stages as prepare
from gream_ext.extras.inspect.card import token_lengths
from gream_ext.items.stages import BUILD
from gream_ext.workspace import Workspace

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("GREAM_SHARED_DATA", ROOT.parent / "shared" / "data"))
EPOCHS = [int(number) for number in os.environ.get("GREAM_BENCHMARK_EPOCHS", "1,3").split(",")]
EVERY = 20
"""Of so many rows one is tokenized, and the time taken for all of them."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    beauty = SHARED / "beauty"
    if not beauty.is_dir():
        pytest.skip("no Amazon data here: set GREAM_SHARED_DATA")
    workspace = Workspace(tmp_path_factory.mktemp("corpus"))
    prepare.STAGE.run(workspace, prepare.PrepareSettings(path=str(beauty)))
    codes = {"from_file": str(beauty / "semantic_ids.jsonl.gz"), "from_field": "rkmeans_4x256"}
    BUILD.run(workspace, BUILD.settings(**codes))
    return workspace


def child(workspace: Workspace, epochs: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.corpus_child", str(workspace.root), str(epochs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def tokenizing(workspace: Workspace) -> tuple[float, float, int]:
    """Seconds, CPU seconds and tokens of every `EVERY`-th row, by a tokenizer that is learned from them."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    from gream_ext.items.index import ItemIndex
    from tests.support.tiny_sft import CHAT_TEMPLATE

    rows = [row for number, row in enumerate(read_rows(workspace.align, "corpus align")) if number % EVERY == 0]
    base = ByteLevelBPETokenizer()
    base.train_from_iterator([row["messages"][0]["content"] for row in rows[:5000]], vocab_size=8192)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base._tokenizer, chat_template=CHAT_TEMPLATE)
    sizes = ItemIndex.load(workspace.item_index).sizes
    tokenizer.add_tokens(
        [f"<|{level}_{code}|>" for level, size in zip("abcde", sizes, strict=True) for code in range(size)]
    )
    start, cpu = time.monotonic(), time.process_time()
    tokens = sum(map(sum, (length for begin in range(0, len(rows), 256)
                           for length in token_lengths(rows[begin : begin + 256], tokenizer))))  # fmt: skip
    return time.monotonic() - start, time.process_time() - cpu, tokens


def test_corpus_rows_a_second_and_memory(workspace: Workspace) -> None:
    print(f"\n{'epochs':>6} {'rows':>9} {'MB':>6} {'seconds':>8} {'CPU s':>6} {'rows/CPU s':>10} {'peak MB':>8}")
    peaks = []
    for epochs in EPOCHS:
        one = child(workspace, epochs)
        peaks.append(one["peak"])
        print(f"{epochs:6} {one['rows']:9,} {one['bytes'] / 1e6:6.0f} {one['seconds']:8.1f} {one['cpu']:6.1f} "
              f"{one['rows'] / one['cpu']:10,.0f} {one['peak'] / 1e6:8.0f}")  # fmt: skip
    seconds, cpu, tokens = (EVERY * value for value in tokenizing(workspace))
    print(f"tokenizing the last of them once, by one row of {EVERY}: {seconds:.0f} s, {cpu:.0f} CPU s, "
          f"{tokens / 1e6:.0f} M tokens: {cpu / one['cpu']:.1f} times the CPU time of writing it")  # fmt: skip
    assert max(peaks) < 1.1 * min(peaks), "memory does not grow with the rows"
