"""LLaMA-Factory's template writes the same tokens as the tokenizer's own chat template."""

import json
from pathlib import Path

import numpy as np
import pytest

from gream_ext.base_model.commands import run
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE
from gream_ext.base_model.stages import BaseModelSettings
from gream_ext.corpus.prompts import direct_messages, history_text, reason_messages
from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

pytestmark = pytest.mark.integration
SIZES = {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 48, "vocabulary_size": 600}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("parity"), users=20, items=40)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32))
    ALIGN.run(workspace, AlignSettings(max_rows=15, epochs=1))
    REASON.run(workspace, ReasonSettings(rows=40, epochs=1, system_prompt="full"))
    return workspace


@pytest.mark.parametrize("across_words", [True, False])
def test_prompt_and_response_tokens_are_equal(workspace: Workspace, across_words: bool) -> None:
    pytest.importorskip("llamafactory")
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    run(workspace, BaseModelSettings(**SIZES, across_words=across_words))
    folder = workspace.model("base_model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(folder)
    template = get_template_and_fix_tokenizer(theirs, DataArguments(template=DEFAULT_TEMPLATE))
    # What LLaMA-Factory mends in a tokenizer is already right.
    assert (theirs.eos_token, theirs.pad_token, len(theirs)) == ("<|im_end|>", "<|endoftext|>", len(tokenizer))
    rows = [json.loads(line) for path in (workspace.align, workspace.reason) for line in path.open(encoding="utf-8")]
    assert len({row["task"] for row in rows}) == 14
    for row in rows:
        messages = row["messages"]
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        chat = [message for message in messages if message["role"] != "system"]
        prompt, response = template.encode_oneturn(theirs, chat, system)
        asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True)["input_ids"]
        assert prompt == asked
        assert prompt + response == tokenizer.apply_chat_template(messages)["input_ids"]
        end = response.index(tokenizer.eos_token_id)
        assert tokenizer.decode(response[:end], skip_special_tokens=True) == messages[-1]["content"]


def test_inference_asks_as_training_did(workspace: Workspace) -> None:
    index = ItemIndex.load(workspace.item_index)
    history = history_text(index, index.item_ids[:5])
    rows = [json.loads(line)["messages"] for line in workspace.reason.open(encoding="utf-8")]
    canonical = reason_messages("{history}")[-1]["content"].split("{history}")[0]
    assert any(messages[1]["content"].startswith(canonical) for messages in rows)
    assert {messages[0]["content"] for messages in rows} == {reason_messages(history)[0]["content"]}
    direct = direct_messages("{history}")[0]["content"].split("{history}")[0]
    asked = [json.loads(line) for line in workspace.align.open(encoding="utf-8")]
    assert any(row["task"] == "next" and row["messages"][0]["content"].startswith(direct) for row in asked)


def test_verl_reads_the_prompts(workspace: Workspace, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    RL.run(workspace, RlSettings(prompts=20, valid_users=4))
    read = datasets.load_dataset(
        "parquet", data_files=str(workspace.rl_train), split="train", cache_dir=str(tmp_path / "cache")
    )
    row = read[0]
    assert isinstance(row["prompt"], list) and row["prompt"][-1]["role"] == "user"
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    assert row["extra_info"]["mode"] in ("direct", "reason") and row["reward_model"]["ground_truth"].startswith("<|a_")
