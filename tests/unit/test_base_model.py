"""The base model: tokenizers, rows of new tokens, and the stage."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gream_ext import __version__
from gream_ext.base_model.commands import run
from gream_ext.base_model.embeddings import code_texts, initial_rows, semantic_rows
from gream_ext.base_model.model_format import RECORD, ModelFormat, read_format
from gream_ext.base_model.stages import BaseModelSettings
from gream_ext.base_model.tokenizer import add_ordinary_tokens, chat_tokenizer, plain_parts, train_bpe
from gream_ext.corpus.prompts import fixed_texts, reason_messages
from gream_ext.corpus.stages import REASON, ReasonSettings
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace, synthetic_index

SMALL = {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 48, "vocabulary_size": 600}
TEXTS = ["The user likes: tea, cups.\nThe user likes: jugs, tea.", "tea and cups", "café — 漢字"] * 10


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("base"), users=20, items=40)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((40, 8), dtype=np.float32))
    REASON.run(workspace, ReasonSettings(rows=30, epochs=1))
    return workspace


def test_added_tokens_are_cut_out_of_training_text() -> None:
    text = "<|im_start|>user\n<|a_1|><|b_22|>, <answer><|a_3|></answer> a < b"
    assert list(plain_parts(text)) == ["user\n", ", ", " a < b"]


@pytest.mark.parametrize("across_words", [True, False])
def test_what_stands_between_identifiers_is_one_token(across_words: bool) -> None:
    texts = ["<|a_1|>, <|a_2|>, <|a_3|>, <|a_4|>, <|a_5|>", *TEXTS]
    tokenizer = chat_tokenizer(train_bpe(texts, 400, across_words), 128)
    add_ordinary_tokens(tokenizer, ["<|a_1|>", "<|a_2|>"])
    assert len(tokenizer("<|a_1|>, <|a_2|>")["input_ids"]) == 3


def test_a_token_may_span_words_but_not_punctuation() -> None:
    across = train_bpe(TEXTS, 400, across_words=True)
    within = train_bpe(TEXTS, 400, across_words=False)
    assert across.encode("The user likes: tea, cups.").tokens == ["TheĠuserĠlikes", ":Ġ", "tea", ",Ġ", "cups", "."]
    assert len(within.encode("The user likes").tokens) == 3


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40))
def test_decoding_gives_back_any_text(text: str) -> None:
    tokenizer = chat_tokenizer(_BPE, 128)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


_BPE = train_bpe(TEXTS, 400, across_words=True)


def test_training_a_tokenizer_twice_gives_the_same() -> None:
    assert train_bpe(TEXTS, 400, True).to_str() == train_bpe(iter(TEXTS), 400, True).to_str()


def test_carriers_of_a_code() -> None:
    index = synthetic_index(["i0", "i8"], slot="always")
    assert index.identifiers[0][0] == index.identifiers[1][0] == "<|a_0|>"
    carriers = code_texts(index, ["tea", ""])
    assert carriers["<|a_0|>"] == [0] and carriers["<|a_1|>"] == []


def test_semantic_rows_by_hand() -> None:
    weight = np.array([[3, 1], [1, 3], [1, 1], [9, 9]], dtype=np.float32)
    # Token 3 is in no text. Middle (5/3, 5/3); distances 1.491, 1.491, 0.943: their median 1.491.
    rows = semantic_rows(
        weight,
        token_ids=[[0], [1], [2]],
        carriers={"<|a_0|>": [0], "<|a_1|>": [1], "<|a_2|>": [], "<|b_0|>": [0, 1]},
        generator=np.random.default_rng(0),
    )
    middle, length = np.array([5 / 3, 5 / 3]), np.hypot(4 / 3, 2 / 3)
    # Level a has means (3, 1) and (1, 3), so (2, 2) is taken away: directions (1, -1) and (-1, 1).
    np.testing.assert_allclose(rows["<|a_0|>"], middle + length * np.array([1, -1]) / np.sqrt(2), rtol=1e-5)
    np.testing.assert_allclose(rows["<|a_1|>"], middle + length * np.array([-1, 1]) / np.sqrt(2), rtol=1e-5)
    # A code without items, and one that is all of its level, get a direction all the same, as long as the others.
    for token in ("<|a_2|>", "<|b_0|>"):
        assert np.linalg.norm(rows[token] - middle) == pytest.approx(length, rel=1e-5)


def test_spread_of_random_and_mean_rows() -> None:
    weight = np.random.default_rng(1).normal(2.0, 0.5, (4000, 8)).astype(np.float32)
    weight[2000:] = 99  # spare rows, never trained
    old, tokens = list(range(2000)), [f"<|a_{code}|>" for code in range(2000)]
    random = initial_rows(weight, old, tokens, "random", None, seed=0)
    mean = initial_rows(weight, old, tokens, "mean", None, seed=0)
    assert random.mean() == pytest.approx(2.0, abs=0.05) and random.std() == pytest.approx(0.5, abs=0.02)
    assert mean.mean() == pytest.approx(2.0, abs=0.02) and mean.std() < 0.05
    assert len(np.unique(mean, axis=0)) == 2000
    np.testing.assert_array_equal(random, initial_rows(weight, old, tokens, "random", None, seed=0))
    assert (random != initial_rows(weight, old, tokens, "random", None, seed=1)).any()


def tiny_pretrained(folder: Path, tied: bool, spare: int) -> Path:
    """A Hugging Face folder with ``spare`` embedding rows more than tokens (fewer, if negative)."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = chat_tokenizer(train_bpe(TEXTS, 400, across_words=False), 128)
    add_ordinary_tokens(tokenizer, ["<think>", "</think>"])
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer) + spare,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=tied,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 20, 500])
@pytest.mark.parametrize("how", ["random", "mean", "semantic"])
def test_new_rows_land_where_their_tokens_are(
    workspace: Workspace, tmp_path: Path, tied: bool, spare: int, how: str
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = tiny_pretrained(tmp_path / "source", tied, spare)
    before = AutoModelForCausalLM.from_pretrained(source)
    tokens_before = len(AutoTokenizer.from_pretrained(source))
    run(workspace, BaseModelSettings(base_model=str(source), initialisation=how))  # type: ignore[arg-type]
    model = AutoModelForCausalLM.from_pretrained(workspace.model("base_model"))
    tokenizer = AutoTokenizer.from_pretrained(workspace.model("base_model"))
    index = ItemIndex.load(workspace.item_index)
    ids = index.token_ids(tokenizer)
    assert ids.min() >= tokens_before and len(set(ids[:, 0])) == len(set(index.codes[:, 0]))
    added = 2 + len(index.vocabulary)
    rows = tokens_before + max(spare, added)
    for get in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, get)().weight, getattr(model, get)().weight
        assert new.shape[0] == rows == model.config.vocab_size
        assert torch.equal(new[:tokens_before], old[:tokens_before])
        fresh = new[tokens_before : tokens_before + added]
        assert torch.isfinite(fresh).all() and len(torch.unique(fresh, dim=0)) == added
        if spare > added:
            # Beyond the new tokens nothing changed; where they are, something was initialised.
            assert torch.equal(new[tokens_before + added :], old[tokens_before + added :])
            assert not torch.isclose(fresh, old[tokens_before : tokens_before + added]).all(dim=1).any()
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) is tied
    about = json.loads((workspace.model("base_model") / RECORD).read_text())
    assert (about["tokens"], about["rows"], about["new"]) == (tokens_before + added, rows, added)
    assert about["settings"]["base_model"] == "source" and about["llamafactory_template"] == "qwen3_nothink"
    assert read_format(workspace.model("base_model")) == ModelFormat(
        template="qwen3_nothink", versions={"gream_ext": __version__}
    )


def test_a_model_that_knows_the_tokens_is_left_as_it_is(workspace: Workspace, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run(workspace, BaseModelSettings(base_model=str(tiny_pretrained(tmp_path / "source", True, 0))))
    first = tmp_path / "first"
    workspace.model("base_model").rename(first)
    run(workspace, BaseModelSettings(base_model=str(first)))
    old, new = (load_file(folder / "model.safetensors") for folder in (first, workspace.model("base_model")))
    assert all((old[name] == new[name]).all() for name in old)


def test_a_special_marker_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    source = tiny_pretrained(tmp_path / "source", True, 0)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>"]})
    tokenizer.save_pretrained(source)
    with pytest.raises(GreamError, match="<answer> is a special token of the base model"):
        run(workspace, BaseModelSettings(base_model=str(source)))


def test_from_scratch_twice_is_the_same_and_decodes_what_training_needs(workspace: Workspace) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = workspace.model("base_model")
    hashes = []
    for _ in range(2):
        run(workspace, BaseModelSettings(**SMALL))
        hashes.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())})
    assert hashes[0] == hashes[1]
    run(workspace, BaseModelSettings(**SMALL, seed=1))
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != hashes[0]["model.safetensors"]

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert json.loads((folder / "tokenizer_config.json").read_text())["tokenizer_class"] == "PreTrainedTokenizerFast"
    index = ItemIndex.load(workspace.item_index)
    answer = f"<think>\nso\n</think>\n<answer>{index.text('i3')}</answer>"
    ids = tokenizer(answer + "<|im_end|>")["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == answer
    messages = [*reason_messages(index.text("i0")), {"role": "assistant", "content": answer}]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == "".join(
        f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages
    )
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer) == model.config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    about = json.loads((folder / RECORD).read_text())
    assert about["llamafactory_template"] == "qwen3_nothink" and about["settings"]["hidden_size"] == 32


def test_identifier_rows_of_a_new_model_differ_by_what_their_items_say(workspace: Workspace) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run(workspace, BaseModelSettings(**SMALL))
    folder = workspace.model("base_model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weight = AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight.detach().numpy()
    rows = weight[tokenizer.convert_tokens_to_ids(["<|a_0|>", "<|a_1|>", "<|a_2|>", "<|a_3|>"])]
    rows = rows - weight[: tokenizer.convert_tokens_to_ids("<think>")].mean(axis=0)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.abs(unit @ unit.T - np.eye(4)).max() < 0.9
    assert np.ptp(np.linalg.norm(rows, axis=1)) < 0.2 * np.linalg.norm(rows, axis=1).mean()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden_size": 100, "heads": 8}, "hidden_size 100 must be a multiple of heads 8"),
        ({"heads": 4, "kv_heads": 3}, "heads of kv_heads 3"),
    ],
)
def test_wrong_sizes_are_one_clear_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(GreamError, match=message):
        BaseModelSettings(**wrong)


def test_wrong_paths_are_one_clear_line(workspace: Workspace, tmp_path: Path) -> None:
    before = sorted(workspace.root.iterdir())
    with pytest.raises(GreamError, match=r"neither a folder with a config\.json"):
        run(workspace, BaseModelSettings(base_model=str(tmp_path / "nowhere")))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(GreamError, match="cannot be loaded"):
        run(workspace, BaseModelSettings(base_model=str(tmp_path)))
    assert sorted(workspace.root.iterdir()) == before


def test_reasoning_data_is_needed_for_a_tokenizer_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(GreamError, match=r"reason\.jsonl is missing: run `gream corpus reason` first"):
        run(make_workspace(tmp_path, users=8, items=16), BaseModelSettings(**SMALL))


@pytest.mark.parametrize("how", ["random", "mean", "semantic"])
def test_equal_length_gives_every_new_row_the_length_of_the_old(how: Any) -> None:
    weight = np.random.default_rng(1).normal(0.3, 0.5, (200, 8)).astype(np.float32)
    tokens = ["<think>", "<|a_0|>", "<|a_1|>"]
    texts = ([[1, 2], [3, 4, 5]], {"<|a_0|>": [0], "<|a_1|>": [1]})
    rows = initial_rows(weight, range(200), tokens, how, texts, seed=0, equal_length=True)
    expected = np.median(np.linalg.norm(weight, axis=1))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), expected, rtol=1e-5)
    free = initial_rows(weight, range(200), tokens, how, texts, seed=0)
    same = rows[:1] if how == "semantic" else rows
    np.testing.assert_allclose(
        same / expected, (free / np.linalg.norm(free, axis=1, keepdims=True))[: len(same)], rtol=1e-5
    )


def test_semantic_rows_of_equal_length_lie_equally_far_along_the_middle() -> None:
    # Words spread about (3, 0, 0). The texts of the first code point along that middle, which must not count.
    weight = np.array([[6, 1, 0], [1, -1, 0], [1, 0, 2], [4, 0, -2]], dtype=np.float32)
    texts = ([[0], [1], [2], [3]], {"<|a_0|>": [0], "<|a_1|>": [1], "<|b_0|>": [2], "<|b_1|>": [3]})
    tokens = list(texts[1])
    rows = initial_rows(weight, range(4), tokens, "semantic", texts, seed=0, equal_length=True)
    length = np.median(np.linalg.norm(weight, axis=1))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), length, rtol=1e-5)
    # Level a: half the difference of words 0 and 1 is (2.5, 1, 0), across the middle (0, 1, 0); level b: (0, 0, 1).
    away = rows - rows[:, :1] * np.array([1, 0, 0], dtype=np.float32)
    np.testing.assert_allclose(np.ptp(rows[:, 0]), 0, atol=1e-5)
    unit = away / np.linalg.norm(away, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, [[0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], atol=1e-5)
    free = initial_rows(weight, range(4), tokens, "semantic", texts, seed=0)
    assert np.ptp(free[:, 0]) > 1  # left as they are, rows lie where their words do


def test_a_direction_along_the_middle_alone_is_none() -> None:
    weight = np.array([[4, 0], [2, 0], [3, 1], [3, -1]], dtype=np.float32)
    texts = ([[0], [1]], {"<|a_0|>": [0], "<|a_1|>": [1]})
    rows = initial_rows(weight, range(4), list(texts[1]), "semantic", texts, seed=0, equal_length=True)
    assert np.isfinite(rows).all() and np.ptp(rows[:, 0]) < 1e-5 and (np.abs(rows[:, 1]) > 0.1).all()


def test_the_tokenizer_learns_from_no_request_to_an_llm() -> None:
    assert not [text for text in fixed_texts() if "[user]" in text or "[system]" in text]
