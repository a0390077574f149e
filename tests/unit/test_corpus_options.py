"""What each option of the corpus stages does to the files, seen from outside: no option is read and then ignored."""

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.files import read_rows
from gream_ext.corpus.preferences import Preferences, Summary, preferences_path
from gream_ext.corpus.profile import wish
from gream_ext.corpus.reasoning import is_subsequence, read_reasoning
from gream_ext.corpus.source import Source
from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.corpus.tasks import TASKS, query_of
from gream_ext.data.histories import training_histories
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace

ONE = re.compile(r"(?:<\|[a-z]_\d+\|>)+")
NONE = dict.fromkeys(TASKS, 0.0)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("options"), users=30, items=48)
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((48, 8), dtype=np.float32))
    return workspace


def align(workspace: Workspace, task: str = "", **chosen: Any) -> list[dict[str, Any]]:
    """The rows that the stage writes with these options, of one task alone or of all."""
    mixture = {**NONE, task: 1.0} if task else {}
    ALIGN.run(workspace, AlignSettings(**{"epochs": 1, "mixture": mixture, **chosen}))
    return list(read_rows(workspace.align, "corpus align"))


def reason(workspace: Workspace, **chosen: Any) -> list[dict[str, Any]]:
    REASON.run(workspace, ReasonSettings(**{"rows": 60, "epochs": 1, **chosen}))
    return list(read_rows(workspace.reason, "corpus reason"))


def rl(workspace: Workspace, **chosen: Any) -> bytes:
    RL.run(workspace, RlSettings(**{"prompts": 40, "valid_users": 5, **chosen}))
    return json.dumps([pl.read_parquet(path).to_dicts() for path in (workspace.rl_train, workspace.rl_valid)]).encode()


def named(row: dict[str, Any], role: int = -2) -> list[str]:
    return ONE.findall(row["messages"][role]["content"])


ALIGN_OPTIONS = {
    "mixture": {"next": 0.1}, "max_rows": 3, "epochs": 2, "window": 2, "crop_share": 1.0, "early_share": 1.0,
    "canonical_share": 1.0, "domain": "film", "text_words": 1, "seed": 1,
}  # fmt: skip
REASON_OPTIONS = {
    "rows": 9, "epochs": 2, "system_prompt": "short", "window": 4, "min_history": 6, "crop_share": 1.0, "most_kept": 1,
    "wishes": 3, "max_words": 30, "canonical_share": 1.0, "domain": "film", "seed": 1, "teachers": {"template": {}},
}  # fmt: skip
RL_OPTIONS = {
    "prompts": 7, "reason_share": 0.1, "valid_users": 3, "system_prompt": "short", "window": 2, "domain": "film",
    "min_history": 9, "seed": 1, "latest": 1,
}  # fmt: skip


@pytest.mark.parametrize("option", ALIGN_OPTIONS)
def test_every_option_of_alignment_data_matters(workspace: Workspace, option: str) -> None:
    assert align(workspace, **{option: ALIGN_OPTIONS[option]}) != align(workspace)


@pytest.mark.parametrize("option", [name for name in REASON_OPTIONS if name != "teachers"])
def test_every_option_of_reasoning_data_matters(workspace: Workspace, option: str) -> None:
    assert reason(workspace, **{option: REASON_OPTIONS[option]}) != reason(workspace)


@pytest.mark.parametrize("option", RL_OPTIONS)
def test_every_option_of_rl_prompts_matters(workspace: Workspace, option: str) -> None:
    for path in (workspace.align, workspace.reason):
        path.unlink(missing_ok=True)
    assert rl(workspace, **{option: RL_OPTIONS[option]}) != rl(workspace)


def test_the_options_here_are_all_there_are() -> None:
    def options(settings: type, *others: str) -> set[str]:
        return set(settings.__dataclass_fields__) - set(others)  # type: ignore[attr-defined]

    from gream_ext.corpus.ask_settings import AskSettings

    of_an_llm = (*AskSettings.__dataclass_fields__, "teacher", "template")
    assert options(AlignSettings) == set(ALIGN_OPTIONS) and options(RlSettings) == set(RL_OPTIONS)
    assert options(ReasonSettings, *of_an_llm) == set(REASON_OPTIONS)


def test_the_early_share_cuts_continuations_after_their_first_item(workspace: Workspace) -> None:
    def first(share: float) -> float:
        rows = align(workspace, "continuation", early_share=share, mixture={**NONE, "continuation": 9.0})
        return sum(len(named(row)) == 1 for row in rows) / len(rows)

    assert first(1.0) == 1.0
    anywhere, half = first(0.0), first(0.5)
    assert 0 < anywhere < 0.4
    assert abs(half - (0.5 + anywhere / 2)) < 0.1


def test_no_prompt_shows_more_than_the_window_and_most_show_all_of_it(workspace: Workspace) -> None:
    for task in ("next", "next_title", "preference_summary", "intent_to_item", "continuation"):
        longest = max(len(named(row)) for row in align(workspace, task, window=4, crop_share=0.0))
        assert longest == 4, task
    titles = [row["messages"][0]["content"].count(";") for row in align(workspace, "next_from_titles", window=4)]
    assert max(titles) == 3
    assert max(len(named(row)) for row in reason(workspace, window=4)) == 4


def test_a_summary_by_an_llm_stands_under_the_last_items_of_what_it_summed_up(workspace: Workspace) -> None:
    """As many as the LLM saw, and no more than the window."""
    histories, index = training_histories(workspace), ItemIndex.load(workspace.item_index)
    users = [user for user, history in histories.items() if len(history) >= 8]
    rows = [
        {"kind": "summary", "user_id": user, "place": 7, "shown": shown, "text": f"Of {user} {shown}."}
        for user, shown in zip(users, (6, 5, 2, 1), strict=False)
    ]
    preferences_path(workspace).write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        for window in (20, 3):
            made = {
                row["messages"][-1]["content"]: named(row)
                for row in align(workspace, "preference_summary", window=window)
            }
            for row in rows:
                shown = min(row["shown"], window)
                items = histories[row["user_id"]][7 - shown : 7]
                assert made[row["text"]] == [index.text(item) for item in items]
    finally:
        preferences_path(workspace).unlink()


def test_several_summaries_and_queries_are_all_used(workspace: Workspace) -> None:
    histories = training_histories(workspace)
    user = next(user for user, history in histories.items() if len(history) > 4)
    catalogue = Catalogue.load(workspace)
    item = catalogue.having("title")[0].item_id
    told = Preferences({user: (Summary(2, 2, "a"), Summary(4, 1, "b"))}, {item: ("q", "r", "s")})
    source = Source(histories, catalogue, preferences=told)
    unit = source.long_users.index(user)
    assert {TASKS["preference_summary"].write(source, unit, Random(seed))[1] for seed in range(30)} == {"a", "b"}
    assert {TASKS["query_to_item"].write(source, 0, Random(seed))[0]["query"] for seed in range(30)} == {"q", "r", "s"}


def test_what_is_shown_of_a_user_varies(workspace: Workspace) -> None:
    """Windows are moved at random, and a summary's history has any length."""
    histories = training_histories(workspace)
    source = Source(histories, Catalogue.load(workspace), window=3)
    user = max(histories, key=lambda user: len(histories[user]))
    unit = list(source.windows).index((user, 0))
    assert len({source.stretch(unit, Random(seed)) for seed in range(40)}) > 1
    summed = source.long_users.index(user)
    wide = Source(histories, source.catalogue, window=99)
    lengths = {
        TASKS["preference_summary"].write(wide, summed, Random(seed))[0]["history"].count(",") for seed in range(99)
    }
    assert len(lengths) > 5


def test_queries_hold_the_rarest_word_of_the_title(workspace: Workspace) -> None:
    catalogue = Catalogue.load(workspace)
    for item in catalogue.having("title"):
        words = item.title.lower().split()
        rarest = min(words, key=lambda word: (catalogue.title_words[word], word))
        assert all(rarest in query_of(item, catalogue, Random(seed)) for seed in range(5))


def test_another_seed_draws_other_wordings_modes_and_users(workspace: Workspace) -> None:
    def wordings(seed: int) -> list[int]:
        rows = align(workspace, "title_to_item", seed=seed)
        return [len(row["messages"][0]["content"].split("<")[0].split(":")[0]) for row in rows]

    assert wordings(0) != wordings(1)
    modes, users = [], []
    for seed in (0, 1):
        rl(workspace, seed=seed, prompts=0)
        modes.append(pl.read_parquet(workspace.rl_train)["extra_info"].struct.field("mode").to_list())
        users.append(set(pl.read_parquet(workspace.rl_valid)["extra_info"].struct.field("user_id")))
    assert modes[0] != modes[1] and users[0] != users[1]


def test_the_canonical_share_is_the_share_of_the_first_wording(workspace: Workspace) -> None:
    def first(share: float) -> float:
        rows = align(workspace, "next", canonical_share=share)
        return sum(row["messages"][0]["content"].startswith("The user has interacted") for row in rows) / len(rows)

    assert (first(0.0), first(1.0)) == (0.0, 1.0) and abs(first(0.5) - 0.5) < 0.1


def test_item_texts_are_cut_and_titles_too(workspace: Workspace) -> None:
    for task in ("item_to_text", "item_to_title"):
        for most in (1, 2):
            rows = align(workspace, task, text_words=most)
            assert max(len(row["messages"][-1]["content"].split()) for row in rows) == most


@pytest.mark.parametrize("domain", ["product", "film"])
def test_the_rewritten_history_is_always_a_part_of_the_real_one(workspace: Workspace, domain: str) -> None:
    """In order, none twice that stands once, and none invented: what decoding is held to, the data never breaks."""
    from gream_ext.corpus.words import words_of

    for crop in (0.0, 0.9):
        rows = reason(workspace, rows=0, crop_share=crop, min_history=1, domain=domain)
        assert len(rows) > 100
        for row in rows:
            stages = read_reasoning(row["messages"][-1]["content"], words_of(domain))
            kept, shown = ONE.findall(stages.kept), named(row)
            assert kept and is_subsequence(kept, shown)
            others = [one for one in shown if one != stages.answer]
            assert kept[-1] == (others or shown)[-1], "the latest item is never noise"
            assert stages.kept == ", ".join(kept), "identifiers and nothing else"
            assert set(ONE.findall(stages.justification)) <= set(kept)
            assert stages.answer not in kept or set(shown) == {stages.answer}


def test_the_history_that_is_rewritten_is_no_longer_than_asked(workspace: Workspace) -> None:
    def longest(most: int) -> int:
        texts = [row["messages"][-1]["content"] for row in reason(workspace, most_kept=most)]
        return max(len(ONE.findall(read_reasoning(text).kept)) for text in texts)

    assert (longest(1), longest(3)) == (1, 3) and longest(20) > 3


def test_an_intent_names_as_many_wishes_as_asked_with_the_true_one_among_them(workspace: Workspace) -> None:
    by_identifier = {item.identifier: item for item in Catalogue.load(workspace).items}
    for row in reason(workspace, wishes=3, rows=0, canonical_share=1.0):
        stages = read_reasoning(row["messages"][-1]["content"])
        if "change" not in stages.intent:
            wishes = stages.intent.removeprefix("The user may now want: ").removesuffix(".").split("; or: ")
            history = [by_identifier[one] for one in named(row)]
            assert ", ".join(wish(history, by_identifier[stages.answer])) in wishes and 1 <= len(set(wishes)) <= 3


def test_modes_of_rl_prompts_have_their_share(workspace: Workspace) -> None:
    rl(workspace, prompts=0, reason_share=0.2)
    modes = pl.read_parquet(workspace.rl_train)["extra_info"].struct.field("mode").to_list()
    assert abs(modes.count("reason") / len(modes) - 0.2) < 0.08


def test_no_target_comes_before_min_history(workspace: Workspace) -> None:
    rl(workspace, prompts=0, min_history=5, window=99)
    prompts = pl.read_parquet(workspace.rl_train)["prompt"].to_list()
    assert min(len(ONE.findall(prompt[-1]["content"])) for prompt in prompts) == 5
    assert min(len(named(row)) for row in reason(workspace, rows=0, min_history=5)) == 5


def test_another_seed_draws_other_questions_not_only_other_words(workspace: Workspace) -> None:
    def targets(seed: int) -> list[str]:
        return [read_reasoning(row["messages"][-1]["content"]).answer for row in reason(workspace, rows=20, seed=seed)]

    assert targets(0) != targets(1) and targets(0) == targets(0)


def test_a_second_epoch_asks_what_the_first_did_not(workspace: Workspace) -> None:
    rows = reason(workspace, rows=40, epochs=2)
    asked = [(json.dumps(named(row)), read_reasoning(row["messages"][-1]["content"]).answer) for row in rows]
    assert [row["epoch"] for row in rows] == [1] * 40 + [2] * 40
    assert len(set(asked)) > 70, "users who go round in a circle may ask the same twice"


def test_files_are_made_for_the_tools_that_read_them(workspace: Workspace) -> None:
    align(workspace)
    reason(workspace)
    info = json.loads(Path(workspace.corpus / "dataset_info.json").read_text())
    for kind in ("align", "reason"):
        assert info[kind]["file_name"] == f"{kind}.jsonl" and (workspace.corpus / info[kind]["file_name"]).is_file()
        first = next(read_rows(workspace.corpus / info[kind]["file_name"], ""))
        tags = info[kind]["tags"]
        assert {message[tags["role_tag"]] for message in first[info[kind]["columns"]["messages"]]} <= {
            tags["user_tag"], tags["assistant_tag"], tags["system_tag"],
        }  # fmt: skip
