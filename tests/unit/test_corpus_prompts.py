"""Prompts of both modes."""

import pytest

from gream_ext.corpus.prompts import (
    direct_messages,
    drawn_wording,
    history_text,
    reason_messages,
    wordings,
)
from gream_ext.corpus.tasks import TASKS
from gream_ext.errors import GreamError
from tests.support.synthetic import synthetic_index


def test_history_is_the_last_window_of_identifiers() -> None:
    index = synthetic_index([f"i{number}" for number in range(30)])
    items = [f"i{number}" for number in range(25)]
    assert history_text(index, items[:2]) == f"{index.text('i0')}, {index.text('i1')}"
    assert history_text(index, items).split(", ") == [index.text(item) for item in items[5:]]
    assert history_text(index, items, window=1) == index.text("i24")
    with pytest.raises(GreamError, match="i99"):
        history_text(index, ["i99"])


def test_canonical_prompts_are_the_papers() -> None:
    question = (
        "The user has interacted with items <|a_1|> in chronological order. "
        "Can you predict the next possible item that the user may expect?"
    )
    assert direct_messages("<|a_1|>") == [{"role": "user", "content": question}]
    system, user = reason_messages("<|a_1|>")
    assert user["content"] == question
    assert system["role"] == "system" and system["content"].startswith("You are an AI recommendation model.")
    assert "\n" not in reason_messages("<|a_1|>", system_prompt="short")[0]["content"]


@pytest.mark.parametrize("task", [name for name in TASKS if name != "next"])
def test_every_task_has_several_wordings(task: str) -> None:
    assert len(set(wordings(task))) >= 2
    assert all("{" in wording for wording in wordings(task))


def test_drawn_wording_keeps_its_share() -> None:
    from random import Random

    chance = Random("share")
    drawn = [drawn_wording("direct", 0.5, chance) for _ in range(2000)]
    assert 0.46 < drawn.count(wordings("direct")[0]) / 2000 < 0.54
    assert set(drawn) == set(wordings("direct"))
    assert {drawn_wording("direct", 1.0, chance) for _ in range(20)} == {wordings("direct")[0]}
