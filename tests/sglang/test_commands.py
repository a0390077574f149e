"""The commands with ``--engine sglang``, and one server under requests of all kinds at once."""

import random
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from gream_ext.cli import main
from gream_ext.errors import GreamError
from gream_ext.inference.engines.base import Sampling
from gream_ext.inference.model import load
from gream_ext.inference.questions import Answer, Question
from gream_ext.inference.source import workspace_source
from tests.support.tiny_reasoner import CONTEXT


def test_recommend_prints_the_same(server, capsys):
    asked = ["recommend", "--workspace", str(server.workspace.root), "--user", "u1", "--n", "5", "--exclude-seen"]
    assert main(asked) == 0
    expected = capsys.readouterr().out
    assert main([*asked, "--engine", "sglang", "--server", server.url]) == 0
    assert capsys.readouterr().out == expected
    assert main([*asked, "--explain", "--engine", "sglang", "--server", server.url]) == 0
    assert "tokens)" in capsys.readouterr().out


def test_evaluate_finds_the_same(server, capsys):
    asked = ["evaluate", "--workspace", str(server.workspace.root), "--model", "sft", "--limit", "12", "--beams", "10"]
    tables = []
    for engine in ([], ["--engine", "sglang", "--server", server.url]):
        assert main([*asked, *engine, "--force"] if engine else asked) == 0
        tables.append(pl.read_parquet(server.workspace.path("evaluation", "sft", "direct-test-first12.parquet")))
    ours, theirs = (table["recommendations"].to_list() for table in tables)
    assert ours == theirs and len(ours) == 12
    reasoned = ["--mode", "reason", "--n", "2", "--max-new-tokens", "40", "--cutoffs", "1", "--limit", "3"]
    assert main([*asked[:5], *reasoned, "--engine", "sglang", "--server", server.url]) == 0
    assert "pass@1" in capsys.readouterr().out


def test_a_recommender_for_the_service(server):
    recommender = load(workspace_source(server.workspace), max_new_tokens=40, engine="sglang", server=server.url)
    question = Question(("i1", "i2"), n=3)
    [found] = recommender.direct([question])
    assert len(found) == 3
    *_, answer = recommender.reason(question)
    assert isinstance(answer, Answer)
    with pytest.raises(GreamError, match="from its seed"):
        list(recommender.reason(Question(("i1",), seed=3)))


def test_requests_of_all_kinds_at_once(server):
    """Direct and reasoning, whole and part of the catalogue, good and bad: the good ones as if they were alone."""
    items, ours, theirs = server.sglang.index.item_ids, server.sglang, server.transformers
    greedy = Sampling(n=1, temperature=0.0, top_p=1.0, max_new_tokens=40)
    chance = random.Random(0)
    asked = [
        Question(chance.sample(items, 3), among=chance.sample(items, 9) if number % 3 else None) for number in range(48)
    ]
    kinds = [("direct", "direct", "reason", "bad")[number % 4] for number in range(48)]
    expected = [
        theirs.direct([request], beams=6)[0] if kind == "direct" else theirs.reason([request], greedy, seeds=[0])[0]
        for request, kind in zip(asked, kinds, strict=True)
    ]

    def one(number: int) -> None:
        if kinds[number] == "bad":
            with pytest.raises(GreamError, match=str(CONTEXT)):
                ours.engine.sample([[5] * (CONTEXT + 10)], greedy)
        elif kinds[number] == "direct":
            [mine] = ours.direct([asked[number]], beams=6)
            assert [one.item_id for one in mine] == [one.item_id for one in expected[number]]
        else:
            assert ours.reason([asked[number]], greedy) == [expected[number]]

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(one, range(48)))
