"""Domain words in prompts and reasoning, and the files beside the corpora that say how a model is asked."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gream_ext.corpus.prompt_settings import PromptSettings, read_prompt_settings, sidecar
from gream_ext.corpus.prompts import drawn_wording, fixed_texts, reason_messages, system_text, wordings
from gream_ext.corpus.reasoning import Malformed, Reasoning, fixed_parts, read_reasoning
from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.corpus.words import PRODUCT, Words, shipped_domains, words_of
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

SHOP = ("purchas", "bought", "buy", "product")
GOOD = Reasoning("Tea.", "Tea.", "Tea.", "<|a_0|>", "Near.", "<|a_1|>")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = make_workspace(tmp_path, users=12, items=24)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((24, 4)).astype(np.float32))
    return workspace


@pytest.mark.parametrize("domain", [name for name in shipped_domains() if name != "product"])
def test_no_word_of_a_shop_is_left_in_another_domain(domain: str) -> None:
    words = words_of(domain)
    said = " ".join(fixed_texts(words)).lower()
    assert not [word for word in SHOP if word in said] and "$" not in said
    assert f"{words.noun} history" in said and words.past in said and words.verb in said and words.thing in said
    assert read_reasoning(GOOD.render(words), words) == GOOD
    with pytest.raises(Malformed):
        read_reasoning(GOOD.render(words), PRODUCT)


def test_the_papers_words_are_the_default() -> None:
    assert words_of("product") == PRODUCT == Words()
    assert "analyze the user's purchase history to recommend what they would likely purchase next" in system_text(
        "full"
    )
    assert "the next item the user may buy based" in system_text("full")
    assert fixed_parts()[3:6] == (
        "</think> Let's rewrite the user's purchase history:", ".",
        "Based on the above analysis, the recommended product is <answer>",
    )  # fmt: skip
    film = words_of("film")
    assert reason_messages("x", system_prompt="short", words=film)[0]["content"].startswith(
        "Think about the user's viewing"
    )
    assert wordings("direct", film)[2].format(history="x") == "Viewing history: x. Recommend the next item."


def test_words_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "wine.yaml"
    path.write_text("{noun: tasting, verb: taste, buy: taste, past: tasted, thing: wine}")
    assert words_of(str(path)).thing == "wine"
    for stage, own in ((ALIGN, AlignSettings), (REASON, ReasonSettings), (RL, RlSettings)):
        assert path in stage.reads(Workspace(tmp_path), own(domain=str(path))), "another text, another corpus"
        assert path not in stage.reads(Workspace(tmp_path), own())
    others = ", buy: a, past: a, thing: a}"
    for text in ("[a]", "{noun: x}", "{", "{noun: '', verb: a" + others, "{noun: 1, verb: a" + others,
                 "{noun: a, verb: '{b}'" + others, "{noun: a, verb: '<|b'" + others):  # fmt: skip
        path.write_text(text)
        with pytest.raises(GreamError, match=r"wine\.yaml"):
            words_of(str(path))
    with pytest.raises(GreamError, match="domain 'flim' is neither one of product, film"):
        AlignSettings(domain="flim")


def test_the_corpora_say_how_a_model_is_asked(workspace: Workspace) -> None:
    assert read_prompt_settings(workspace) == PromptSettings()
    ALIGN.run(workspace, AlignSettings(epochs=1, max_rows=30, window=7, domain="film"))
    film = words_of("film")
    assert read_prompt_settings(workspace) == PromptSettings(7, 7, "full", film)
    REASON.run(workspace, ReasonSettings(rows=9, epochs=1, window=5, domain="film", system_prompt="short"))
    asked = PromptSettings(7, 5, "short", film)
    assert read_prompt_settings(workspace) == asked
    assert PromptSettings.from_json(json.loads(json.dumps(asked.as_json())), "x") == asked
    for path in (workspace.align, workspace.reason):
        said = path.read_text().lower()
        assert "viewing history" in said and not [word for word in SHOP if word in said]
    RL.run(workspace, RlSettings(prompts=20, valid_users=3))
    about = json.loads(pl.read_parquet_metadata(workspace.rl_train)["gream"])
    assert PromptSettings.from_json(about["prompts"], "x") == asked
    shown = {"direct": 0, "reason": 0}
    for row in pl.read_parquet(workspace.rl_train).to_dicts():
        mode = row["extra_info"]["mode"]
        shown[mode] = max(shown[mode], row["prompt"][-1]["content"].count("<|a_"))
    assert shown == {"direct": 7, "reason": 5}, "each mode has its own window"
    systems = {
        message["content"] for row in pl.read_parquet(workspace.rl_train)["prompt"] for message in row
        if message["role"] == "system"
    }  # fmt: skip
    assert systems == {system_text("short", film)}, "reinforcement asks as the reasoning data does"
    RL.run(workspace, RlSettings(prompts=20, valid_users=3, window=3, system_prompt="full", domain="book"))
    about = json.loads(pl.read_parquet_metadata(workspace.rl_valid)["gream"])
    assert PromptSettings.from_json(about["prompts"], "x") == PromptSettings(3, 3, "full", words_of("book"))


def test_reinforcement_prompts_are_those_of_the_training_data_to_the_letter(workspace: Workspace) -> None:
    """What a reasoning row of the same history asks, RL asks in the same words."""
    REASON.run(workspace, ReasonSettings(rows=0, epochs=1, window=4, domain="game", canonical_share=1.0))
    RL.run(workspace, RlSettings(prompts=0, reason_share=1.0))
    trained = {json.dumps(json.loads(line)["messages"][:-1]) for line in workspace.reason.read_text().splitlines()}
    assert {json.dumps(list(prompt)) for prompt in pl.read_parquet(workspace.rl_train)["prompt"].to_list()} == trained


def test_a_corpus_without_its_settings_or_with_two_minds_is_refused(workspace: Workspace) -> None:
    ALIGN.run(workspace, AlignSettings(epochs=1, max_rows=5))
    REASON.run(workspace, ReasonSettings(rows=5, epochs=1, domain="book"))
    with pytest.raises(GreamError, match=r"align\.meta\.json says .*reason\.meta\.json.*--domain"):
        read_prompt_settings(workspace)
    about = json.loads(sidecar(workspace.reason).read_text())
    for wrong in (
        {"window": 0},
        {"window": True},
        {"system_prompt": "long"},
        {"words": {}},
        {"kind": "x"},
        {"version": 2},
    ):
        sidecar(workspace.reason).write_text(json.dumps({**about, **wrong}))
        with pytest.raises(GreamError, match=r"reason\.meta\.json"):
            read_prompt_settings(workspace)
    sidecar(workspace.reason).unlink()
    with pytest.raises(
        GreamError, match=r"reason\.meta\.json is missing, which says .*: run `gream corpus reason` again"
    ):
        read_prompt_settings(workspace)


def test_a_drawn_wording_speaks_the_domain() -> None:
    from random import Random

    drawn = {drawn_wording("direct", 0.0, Random(seed), words_of("book")) for seed in range(40)}
    assert len(drawn) == 3 and any("a user read, oldest first" in wording for wording in drawn)
