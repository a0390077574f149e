"""The data card: counts, lengths, and what a cutoff would cut, against counting by hand."""

import json
from pathlib import Path

import pytest

from gream_ext.corpus.stages import ALIGN, AlignSettings
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.card import make_card, token_lengths
from gream_ext.extras.inspect.stages import CARD, CardSettings, card_path
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace
from tests.support.tiny_sft import make_model, make_rows


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


def test_lengths_are_those_of_the_whole_chat(tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    rows = make_rows("align", 5)
    for row, (prompt, response) in zip(rows, token_lengths(rows, tokenizer), strict=True):
        whole = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        assert prompt + response == len(tokenizer(whole, add_special_tokens=False)["input_ids"])


def test_card_counts_rows_tokens_and_what_is_cut(tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    rows = [*make_rows("align", 40, epoch=1), *make_rows("align", 20, epoch=2), *make_rows("reason", 7)]
    rows = [{**row, "task": row["kind"]} for row in rows]
    lengths = [sum(pair) for pair in token_lengths(rows, tokenizer)]
    cutoff = sorted(lengths)[len(lengths) // 2]
    card = make_card(rows, tokenizer, cutoff)
    assert card["rows"] == {"align": 60, "reason": 7}
    assert card["tasks"]["align"]["rows_per_epoch"] == {"1": 40, "2": 20}
    assert card["over_cutoff"] == sum(length > cutoff for length in lengths)
    told = card["tasks"]["align"]
    assert sum(count for _, _, count in told["histogram"]) == told["tokens_counted_in"] == 60
    for low, high, count in told["histogram"]:
        assert count == sum(low <= length <= high for length in lengths[:60])
    assert told["tokens"]["greatest"] == max(lengths[:60])
    sampled = make_card(rows, tokenizer, cutoff, 20)["tasks"]["align"]
    assert sampled["tokens_counted_in"] == 20 and sampled["rows"] == 60
    assert sampled["over_cutoff"] == 3 * sum(length > cutoff for length in lengths[:20])


def test_the_stage_writes_the_card_and_names_what_is_missing(tokenizer_folder: Path, tmp_path: Path) -> None:
    workspace: Workspace = make_workspace(tmp_path, users=8, items=16)
    chosen = CardSettings(tokenizer=str(tokenizer_folder))
    with pytest.raises(GreamError, match="run `gream corpus align` first"):
        CARD.run(workspace, chosen)
    ALIGN.run(workspace, AlignSettings(epochs=1, max_rows=5))
    with pytest.raises(GreamError, match="holds no tokenizer"):
        CARD.run(workspace, CardSettings())
    CARD.run(workspace, chosen)
    card = json.loads(card_path(workspace).read_text())
    with workspace.align.open("rb") as file:
        assert card["rows"] == {"align": sum(1 for _ in file)}
    assert max(task["rows"] for task in card["tasks"].values()) == 5 and card["cutoff"] == 2048
