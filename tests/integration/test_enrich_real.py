"""Enrichment by a real LLM behind a real endpoint: SmolLM2-135M-Instruct, served by ``transformers serve``.

A model of this size describes poorly. What is tested is that the whole way works: real prompts, real tokens, real
answers that are kept, judged and paid for once.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from gream_ext.data import stages as prepare
from gream_ext.extras.ask.enrich import read_items
from gream_ext.extras.ask.ledger import read_ledger
from gream_ext.extras.ask.stages import ENRICH, EnrichSettings, enrich_ledger
from gream_ext.items.text import enriched_descriptions
from gream_ext.items.text_reviews import counter, estimated_tokens
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]
SHARED = Path(os.environ.get("GREAM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
ITEMS = 4
TEMPLATE = """[system]
You describe items of a shop in one short sentence.
[user]
$text

Describe "$title" in one short sentence that names it.
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "template.txt").write_text(TEMPLATE)
    return make_workspace(tmp_path / "run", users=12, items=24)


def settings(model: Path, address: str, workspace: Workspace, **chosen: object) -> EnrichSettings:
    known = {
        "limit": ITEMS, "concurrency": 1, "max_tokens": 64, "temperature": 0.7, "min_words": 4, "timeout": 900.0,
        "tolerate": 1.0, "rejections": 2, "template": str(workspace.root.parent / "template.txt"),
    }  # fmt: skip
    return EnrichSettings(base_url=address, model=str(model), **{**known, **chosen})  # type: ignore[arg-type]


def test_items_are_described_once(
    smollm2: Path, smollm2_address: str, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = settings(smollm2, smollm2_address, workspace)
    ENRICH.run(workspace, settings(smollm2, smollm2_address, workspace, dry_run=True))
    estimate = capsys.readouterr().out
    ENRICH.run(workspace, asked)
    said = capsys.readouterr()
    lines = read_ledger(enrich_ledger(workspace))
    items = {item.item_id for item in read_items(workspace, ITEMS)}
    assert {line["key"] for line in lines} == items, "every item was really asked about"
    assert all(line["usage"]["completion_tokens"] > 0 for line in lines)
    described = enriched_descriptions(workspace)
    good = {line["key"] for line in lines if line["rejected"] is None}
    assert set(described) == good, "described or reported, nothing else"
    assert good, f"not one good answer of {len(lines)}: {[line['rejected'] for line in lines]}"
    assert all(reported in said.err for reported in list(items - good)[:3])
    # What the dry run said beforehand, beside what the endpoint counted.
    first = {line["key"]: line["usage"] for line in lines}
    told = int(re.search(r"about (\d+) prompt tokens", estimate)[1])  # type: ignore[index]
    counted = sum(usage["prompt_tokens"] for usage in first.values())
    assert f"{ITEMS} requests to send, 0 answered already" in estimate
    assert 0.5 * counted < told < 2 * counted
    print(f"dry run {told} prompt tokens, endpoint {counted}; {described}")
    if good == items:
        ENRICH.run(workspace, asked)
        assert len(read_ledger(enrich_ledger(workspace))) == len(lines), "a second run pays for nothing"


def test_killed_and_gone_on(smollm2: Path, smollm2_address: str, workspace: Workspace) -> None:
    chosen = settings(smollm2, smollm2_address, workspace)
    options = [
        word
        for name in (
            "limit",
            "concurrency",
            "max_tokens",
            "temperature",
            "min_words",
            "timeout",
            "tolerate",
            "template",
        )
        for word in (f"--{name.replace('_', '-')}", str(getattr(chosen, name)))
    ]
    command = [sys.executable, "-m", "gream_ext.cli", "enrich", "--workspace", str(workspace.root)]
    command += ["--base-url", smollm2_address, "--model", str(smollm2), *options]
    environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 900
        while not read_ledger(enrich_ledger(workspace)) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        child.wait()
    finally:
        child.kill()
        child.wait()
    kept = read_ledger(enrich_ledger(workspace))
    assert kept
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-800:]
    lines = read_ledger(enrich_ledger(workspace))
    assert lines[: len(kept)] == kept
    accepted = [line["key"] for line in lines if line["rejected"] is None]
    assert len(accepted) == len(set(accepted)), "no good answer was paid for twice"


def test_the_estimate_of_tokens_is_seldom_too_small(smollm2: Path, tmp_path: Path) -> None:
    """Against SmolLM2's own tokenizer, on the composite texts of Beauty."""
    if not (SHARED / "beauty").is_dir():
        pytest.skip("no Amazon data here: set GREAM_SHARED_DATA")
    workspace = Workspace(tmp_path)
    prepare.STAGE.run(workspace, prepare.PrepareSettings(path=str(SHARED / "beauty")))
    exact, texts = counter(str(smollm2)), pl.read_parquet(workspace.items)["text"].to_list()
    counted, estimated = ([count(text) for text in texts] for count in (exact, estimated_tokens))
    too_small = sum(told < right for told, right in zip(estimated, counted, strict=True)) / len(texts)
    print(
        f"estimate {sum(estimated) / sum(counted):.2f} times the tokens, too small in {too_small:.2%} of {len(texts)}"
    )
    assert too_small < 0.01 and sum(estimated) < 1.5 * sum(counted)
