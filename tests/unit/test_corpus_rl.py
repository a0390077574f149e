"""RL prompts, the data card and the samples on the terminal."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from gream_ext.corpus.prompts import direct_messages, history_text, reason_messages
from gream_ext.corpus.rl import train_prompts
from gream_ext.corpus.stages import ALIGN, RL, AlignSettings, RlSettings
from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.extras.inspect.card import histogram, make_card, summary, task_card
from gream_ext.extras.inspect.stages import CARD, INSPECT, CardSettings, InspectSettings
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(tmp_path_factory.mktemp("rl"), users=30, items=48)
    ALIGN.run(workspace, AlignSettings(max_rows=12, epochs=1))
    RL.run(workspace, RlSettings(prompts=60, valid_users=7, system_prompt="short", window=4))
    return workspace


def test_training_prompts_are_training_targets_with_what_came_before(workspace: Workspace) -> None:
    index = ItemIndex.load(workspace.item_index)
    slow: set[tuple[str, str, str]] = set()
    for user, history in training_histories(workspace).items():
        for place in range(3, len(history)):
            slow.add((user, history_text(index, history[:place], 4), index.text(history[place])))
    rows = pl.read_parquet(workspace.rl_train).to_dicts()
    assert len(rows) == 60
    drawn = set()
    for number, row in enumerate(rows):
        about = row["extra_info"]
        assert (about["index"], about["split"], row["data_source"]) == (number, "train", "gream")
        assert row["ability"] == "recommendation" and row["reward_model"]["style"] == "rule"
        truth = row["reward_model"]["ground_truth"]
        asked = direct_messages if about["mode"] == "direct" else partial(reason_messages, system_prompt="short")
        possible = [told for user, told, target in slow if (user, target) == (about["user_id"], truth)]
        assert row["prompt"] in [asked(told) for told in possible]
        drawn.add((about["user_id"], row["prompt"][-1]["content"], truth))
    # No target twice; a user who went round in a circle asks the same twice.
    assert len(drawn) > 55
    modes = Counter(row["extra_info"]["mode"] for row in rows)
    assert 15 < modes["reason"] < 45


def test_validation_prompts_ask_each_user_in_both_modes(workspace: Workspace) -> None:
    index = ItemIndex.load(workspace.item_index)
    cases = {case.user_id: case for case in evaluation_cases(workspace, "valid")}
    rows = pl.read_parquet(workspace.rl_valid).to_dicts()
    asked = Counter((row["extra_info"]["user_id"], row["extra_info"]["mode"]) for row in rows)
    assert len(rows) == 14 and set(asked.values()) == {1} and len({user for user, _ in asked}) == 7
    for row in rows:
        case = cases[row["extra_info"]["user_id"]]
        assert history_text(index, case.history, 4) in row["prompt"][-1]["content"]
        assert row["reward_model"]["ground_truth"] == index.text(case.target)


def test_the_same_seed_gives_the_same_file(workspace: Workspace) -> None:
    before = workspace.rl_train.read_bytes(), workspace.rl_valid.read_bytes()
    RL.run(workspace, RlSettings(prompts=60, valid_users=7, system_prompt="short", window=4))
    assert (workspace.rl_train.read_bytes(), workspace.rl_valid.read_bytes()) == before
    RL.run(workspace, RlSettings(prompts=60, valid_users=7, system_prompt="short", window=4, seed=1))
    assert workspace.rl_train.read_bytes() != before[0]


@pytest.mark.parametrize(("share", "modes"), [(0.0, {"direct"}), (1.0, {"reason"})])
def test_one_mode_alone(workspace: Workspace, tmp_path: Any, share: float, modes: set[str]) -> None:
    other = make_workspace(tmp_path, users=10, items=20)
    RL.run(other, RlSettings(prompts=0, reason_share=share))
    for path in (other.rl_train, other.rl_valid):
        assert set(pl.read_parquet(path)["extra_info"].struct.field("mode")) == modes


def test_no_more_prompts_than_training_targets(workspace: Workspace) -> None:
    histories = training_histories(workspace)
    prompts = list(train_prompts(histories, 100_000_000))
    assert prompts == list(train_prompts(histories, 0))
    assert len(prompts) == sum(max(0, len(history) - 3) for history in histories.values())


def test_the_latest_targets_alone(workspace: Workspace) -> None:
    histories = training_histories(workspace)
    prompts = list(train_prompts(histories, 0, latest=2))
    expected = {
        (user, at) for user, history in histories.items() for at in range(max(3, len(history) - 2), len(history))
    }
    assert {(prompt.user_id, len(prompt.history)) for prompt in prompts} == expected
    for prompt in prompts:
        assert [*prompt.history, prompt.target] == list(histories[prompt.user_id][: len(prompt.history) + 1])
    assert list(train_prompts(histories, 0, latest=1000)) == list(train_prompts(histories, 0))


def test_short_histories(workspace: Workspace) -> None:
    with pytest.raises(GreamError, match="lower min_history"):
        RL.run(workspace, RlSettings(min_history=100))


def test_summary_and_histogram_by_hand() -> None:
    lengths = [1, 4, 7, 4]
    assert summary(lengths) == {"least": 1, "median": 4, "p95": 7, "greatest": 7, "mean": 4.0}
    assert histogram(lengths) == [[1, 1, 1], [4, 7, 3]]
    assert summary([]) == {} and histogram([0, 0]) == [[1, 1, 2]]


def test_rows_over_the_cutoff_are_counted() -> None:
    told = task_card("align", Counter(every=3), [(4, 6), (9, 1), (1, 10)], cutoff=10)
    assert told["over_cutoff"] == 1 and told["share_over_cutoff"] == pytest.approx(1 / 3, abs=1e-6)


def test_card_counts_rows_by_task_and_epoch() -> None:
    rows = [{"kind": "align", "task": "next", "epoch": 1 + number % 2, "messages": []} for number in range(5)] + [
        {"kind": "reason", "task": "reason", "messages": []}
    ]
    told = make_card(rows, None, 2048)
    assert told["rows"] == {"align": 5, "reason": 1}
    assert told["tasks"]["next"]["rows_per_epoch"] == {"1": 3, "2": 2}
    assert told["tasks"]["reason"]["rows_per_epoch"] == {"every": 1}


def test_card_counts_tokens_as_training_sees_them(workspace: Workspace) -> None:
    from gream_ext.base_model.tokenizer import add_ordinary_tokens, chat_tokenizer, train_bpe

    rows = [json.loads(line) for line in workspace.align.read_text().splitlines()]
    index = ItemIndex.load(workspace.item_index)
    tokenizer = chat_tokenizer(train_bpe(["tea and cups"], 300, across_words=False), 512)
    add_ordinary_tokens(tokenizer, index.vocabulary)
    chosen = [row for row in rows if row["task"] in ("next", "item_to_title")]
    told = make_card(chosen, tokenizer, 100)
    for task in ("next", "item_to_title"):
        slow = []
        for row in chosen:
            if row["task"] == task:
                prompt = tokenizer.apply_chat_template(row["messages"][:-1], add_generation_prompt=True)["input_ids"]
                slow.append((len(prompt), len(tokenizer.apply_chat_template(row["messages"])["input_ids"])))
        about = told["tasks"][task]
        assert about["prompt_tokens"]["greatest"] == max(prompt for prompt, _ in slow)
        assert about["tokens"]["mean"] == pytest.approx(sum(whole for _, whole in slow) / len(slow), abs=0.01)
        assert about["over_cutoff"] == sum(whole > 100 for _, whole in slow)
    assert told["tasks"]["next"]["response_tokens"]["greatest"] == index.length + 2


def test_card_without_a_tokenizer_says_what_to_run(workspace: Workspace) -> None:
    with pytest.raises(GreamError, match="run `gream base-model` first"):
        CARD.run(workspace, CardSettings())


def test_samples_show_titles(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    INSPECT.run(workspace, InspectSettings())
    shown = capsys.readouterr().out
    assert "align · continuation" in shown and "rl · rl train reason" in shown and "rl valid direct" in shown
    assert "»" in shown and "[ground truth]" in shown
    INSPECT.run(workspace, InspectSettings(data="align", task="next", count=2, titles=False))
    shown = capsys.readouterr().out
    assert shown.count("align · next\n") == 2 and "»" not in shown
    INSPECT.run(workspace, InspectSettings(data="align", task="next", count=2, skip=1, titles=False))
    assert capsys.readouterr().out.split("align · next\n")[1] == shown.split("align · next\n")[2]


def test_nothing_to_show_is_an_error(tmp_path: Any) -> None:
    with pytest.raises(GreamError, match="has no such training data"):
        INSPECT.run(make_workspace(tmp_path, users=8, items=16), InspectSettings())
    with pytest.raises(GreamError, match=r"reason\.jsonl is missing"):
        INSPECT.run(make_workspace(tmp_path, users=8, items=16), InspectSettings(data="reason"))


ROW = b'{"kind": "align", "task": "next", "messages": []}\n'


@pytest.mark.parametrize(
    ("damage", "settings", "said"),
    [
        (b"[1]\n", {}, r"align\.jsonl, line 2 is damaged \(not a training row\): run `gream corpus align` again"),
        (b"\xff\n", {}, r"align\.jsonl, line 2 is damaged"),
        (b"[" * 100_000, {}, r"align\.jsonl, line 2 is damaged"),
        (b"", {"task": "zzz"}, "--task 'zzz' is not in this data: it has next"),
        (b"", {"skip": 99999}, "--skip 99999 passes over all samples: there are 1 of a task at most"),
        (None, {"data": "rl"}, r"train\.parquet is damaged"),
    ],
)
def test_inspecting_damaged_data_or_what_is_not_there(
    tmp_path: Path, damage: bytes | None, settings: dict[str, Any], said: str
) -> None:
    workspace = Workspace(tmp_path)
    path = workspace.rl_train if damage is None else workspace.align
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1 cut off" if damage is None else ROW + damage)
    with pytest.raises(GreamError, match=said) as error:
        INSPECT.run(workspace, InspectSettings(titles=False, **settings))
    assert "\n" not in str(error.value)
