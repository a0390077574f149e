"""Foreign base models: what they are asked with is what LLaMA-Factory trains, or they are refused in one sentence.

The whole table of docs/base_models_measured.md: ``python -m tests.support.family_run``.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from gream_ext.base_model.chat_format import ChatFormat, compare
from gream_ext.base_model.extend import MARKERS
from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.base_model.tokenizer import add_ordinary_tokens
from gream_ext.errors import GreamError
from tests.support.families import FAMILIES, Family, make_family, make_tokenizer
from tests.support.family_run import corpus, try_family

pytest.importorskip("llamafactory")
pytestmark = pytest.mark.integration
RECURRENT = ("mamba", "falcon_mamba", "rwkv", "recurrent_gemma", "jamba")


def by_name(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def with_identifiers(family: Family) -> Any:
    tokenizer = make_tokenizer(family)
    add_ordinary_tokens(tokenizer, [*MARKERS, *(f"<|{level}_{code}|>" for level in "abcde" for code in range(4))])
    return tokenizer


@pytest.fixture(scope="module")
def answer() -> Any:
    """LLaMA-Factory's side, in this process: it is imported once."""
    from gream_ext.plugins.llamafactory.template import answer

    return answer


@pytest.mark.parametrize(
    "family", [one for one in FAMILIES if one.model_type not in RECURRENT], ids=lambda one: one.name
)
def test_inference_and_training_write_the_same_tokens(family: Family, tmp_path: Path, answer: Any) -> None:
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    from gream_ext.plugins.llamafactory.template import probes

    tokenizer = with_identifiers(family)
    tokenizer.save_pretrained(tmp_path)
    found = answer({"folder": str(tmp_path), "template": family.choose, "add": True})
    if family.template is None:
        assert found["refused"] == {} and len(found["nearest"]) == 3
        return
    assert (found["template"], found["chat_template"] is not None) == (family.template, family.replaced)
    tokenizer.add_tokens(found["new_tokens"], special_tokens=True)
    tokenizer.chat_template = found["chat_template"] or tokenizer.chat_template
    theirs = tokenizer.__class__.from_pretrained(tmp_path)
    theirs.add_tokens(found["new_tokens"], special_tokens=True)
    template = get_template_and_fix_tokenizer(theirs, DataArguments(template=family.template))
    for probe in probes(tokenizer):
        turns = [{"role": "user", "content": probe.user}, {"role": "assistant", "content": probe.response}]
        prompt, response = template.encode_oneturn(theirs, turns, probe.system)
        asked = tokenizer.apply_chat_template(
            list(probe.messages), tokenize=True, add_generation_prompt=True, return_dict=False
        )
        assert [*prompt, *response][: len(asked)] == asked, "the model sees what it was trained on"
        rest = [*prompt, *response][len(asked) :]
        content = tokenizer.encode(probe.response, add_special_tokens=False)
        assert rest[: len(content)] == content, "and what it is to write follows at once"
        text = "".join(tokenizer.decode(asked).split())
        assert "".join((probe.system or "").split()) in text, "the system prompt is in it"


@pytest.mark.parametrize("model_type", RECURRENT)
def test_what_keeps_no_keys_and_values_is_refused(model_type: str, tmp_path: Path) -> None:
    family = next(one for one in FAMILIES if one.model_type == model_type)
    with pytest.raises(GreamError, match=f"is a {model_type}, which does not keep keys and values in every layer"):
        load_pretrained(str(make_family(tmp_path / "model", family)))


def test_a_recipe_with_a_foreign_template_is_refused_with_the_cure(tmp_path: Path, answer: Any) -> None:
    with_identifiers(by_name("Gemma 2")).save_pretrained(tmp_path)
    found = answer({"folder": str(tmp_path), "template": "qwen3_nothink"})
    assert found["refused"] == {"qwen3_nothink": "the model has no token <|im_end|>"} and found["instead"] == "gemma"
    found = answer({"folder": str(tmp_path), "template": "nonsense"})
    assert "has no such template" in found["refused"]["nonsense"]
    with_identifiers(by_name("Qwen3")).save_pretrained(tmp_path)
    found = answer({"folder": str(tmp_path), "template": "qwen3"})
    assert found["refused"]["qwen3"] == "it trains an empty <think> block before direct answers"
    found = answer({"folder": str(tmp_path), "template": "qwen3_nothink", "keys": {"default_system": "Be brief."}})
    assert found["chat_template"] and "Be brief." in found["chat_template"], "a key of the recipe is trained, too"


def test_the_program_and_its_sentences(tmp_path: Path) -> None:
    tokenizer = with_identifiers(by_name("Gemma 2"))
    tokenizer.save_pretrained(tmp_path)
    found = compare(tmp_path, "gemma")
    assert isinstance(found, ChatFormat) and found.eos_token == "<end_of_turn>"
    assert found.told == "its chat template writes no reason prompt: it is asked as LLaMA-Factory's gemma trains"
    with pytest.raises(GreamError, match=r"template llama3 does not fit a model: .*: set template to gemma"):
        compare(tmp_path, "llama3", name="a model")


@pytest.mark.parametrize("name", ["Gemma 2", "GPT-2"])
def test_a_family_from_its_folder_to_both_modes(name: str, tmp_path: Path) -> None:
    """Gemma's template refuses a system message: it trained, and reasoning mode died in jinja2; GPT-2 has none."""
    family, workspace = by_name(name), corpus(tmp_path)
    found = try_family(workspace, family)
    assert found.refused is None and len(found.losses) == 4
    assert (found.template, found.replaced) == (family.template, family.replaced)
    assert found.direct == 1.0 and found.reason > 0
    shutil.rmtree(workspace.model("sft"))
