"""Preferences, queries and reasoning by a real LLM behind a real endpoint: SmolLM2-135M-Instruct.

A model of this size seldom keeps to a form of six parts. What is tested is that the whole way works: real prompts and
tokens, answers that are judged, kept with the reason where they are rejected, and paid for once.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from gream_ext.corpus.files import rejected_path
from gream_ext.corpus.preferences import preferences_path
from gream_ext.corpus.stages import REASON, ReasonSettings
from gream_ext.errors import GreamError
from gream_ext.extras.ask.ledger import read_ledger
from gream_ext.extras.ask.stages import PREFERENCES, PreferenceSettings, preferences_ledger
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return make_workspace(tmp_path / "run", users=12, items=24)


def endpoint(model: Path, address: str) -> dict[str, Any]:
    return {"base_url": address, "model": str(model), "concurrency": 1, "timeout": 900.0, "rejections": 2}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_preferences_and_queries(smollm2: Path, smollm2_address: str, workspace: Workspace) -> None:
    asked = PreferenceSettings(
        **endpoint(smollm2, smollm2_address),
        limit=2,
        queries=1,
        min_words=3,
        max_query_words=20,
        max_tokens=64,
        tolerate=1.0,
    )
    PREFERENCES.run(workspace, asked)
    ledger = read_ledger(preferences_ledger(workspace))
    assert len({line["key"] for line in ledger}) == 4, "two users and two items were really asked about"
    assert all(line["usage"]["completion_tokens"] > 0 for line in ledger)
    told = lines_of(preferences_path(workspace))
    good = [line for line in ledger if line["rejected"] is None]
    print(f"{len(good)} of {len(ledger)} answers good: {told}; {[line['rejected'] for line in ledger]}")
    assert len(told) == len(good) > 0 and {row["teacher"] for row in told} == {str(smollm2)}
    PREFERENCES.run(workspace, asked)
    again = read_ledger(preferences_ledger(workspace))
    paid = [line["key"] for line in again if line["rejected"] is None]
    assert again[: len(ledger)] == ledger and len(paid) == len(set(paid)), "no good answer was paid for twice"


def test_reasoning(smollm2: Path, smollm2_address: str, workspace: Workspace) -> None:
    asked = ReasonSettings(
        **endpoint(smollm2, smollm2_address), rows=2, epochs=1, teacher="llm", max_tokens=112, tolerate=1.0
    )
    try:
        REASON.run(workspace, asked)
    except GreamError as error:  # not one good answer
        assert "none of 2 answers was accepted" in str(error) and not workspace.reason.exists()
    ledger = read_ledger(workspace.path("reason.ledger.jsonl"))
    assert len({line["key"] for line in ledger}) == 2 and all(line["usage"]["prompt_tokens"] > 100 for line in ledger)
    accepted = lines_of(workspace.reason) if workspace.reason.exists() else []
    rejected = lines_of(rejected_path(workspace))
    print(f"{len(accepted)} of {len(ledger)} answers accepted; {[row['reason'] for row in rejected]}")
    assert len(accepted) + len(rejected) == len(ledger)
    assert all(row["reason"] and row["messages"][-1]["content"] for row in rejected), "kept apart, each with its reason"
    assert [line["rejected"] for line in ledger].count(None) == len(accepted)
