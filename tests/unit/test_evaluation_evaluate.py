"""The stage ``evaluate`` on a model that knows nothing: everybody is counted, whatever interrupts it."""

import json
import os
import re
import shutil
from itertools import takewhile

import polars as pl
import pytest

from gream_ext.base_model.model_format import ModelFormat, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.data.histories import Case, evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.evaluation import shards
from gream_ext.evaluation.answers import faithfulness, reasoned_row, user_seed
from gream_ext.evaluation.baselines import popular_items
from gream_ext.evaluation.files import model_hash, ranked_rows, read_evaluation
from gream_ext.evaluation.protocol import compare
from gream_ext.evaluation.stages import BASELINES, BaselinesSettings, EvaluateSettings
from gream_ext.evaluation.stages import EVALUATE as STAGE
from gream_ext.extras.report.stages import STAGE as REPORT
from gream_ext.extras.report.stages import ReportSettings
from gream_ext.inference.modes import Reasoning, votes
from gream_ext.items.index import ItemIndex
from gream_ext.pipeline.record import slug
from gream_ext.workspace import INTERACTIONS, Workspace, write_table
from tests.support.synthetic import make_workspace, synthetic_index
from tests.support.tiny_models import tiny_chat_model

REASON = {"mode": "reason", "n": 3, "cutoffs": (1, 3), "max_new_tokens": 5, "system_prompt": "short"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = make_workspace(tmp_path_factory.mktemp("a place") / "runs")
    for name, seed in (("sft", 0), ("srpo", 1)):
        model, tokenizer = tiny_chat_model(ItemIndex.load(workspace.item_index), seed)
        model.save_pretrained(workspace.model(name))
        tokenizer.save_pretrained(workspace.model(name))
        write_format(workspace.model(name), ModelFormat(PromptSettings(direct_window=7)))
    return workspace


def written(workspace, settings):
    return [path.read_bytes() for path in STAGE.writes(workspace, settings)]


def test_direct_mode_counts_every_user(workspace):
    settings = EvaluateSettings(prompts_at_once=7)
    STAGE.run(workspace, settings)
    rows = read_evaluation(workspace.evaluation("sft", "direct", "test"))
    cases = evaluation_cases(workspace, "test")
    assert rows.select("user_id", "target").rows() == [(case.user_id, case.target) for case in cases]
    known = set(ItemIndex.load(workspace.item_index).item_ids)
    for items, scores in rows.select("recommendations", "scores").rows():
        assert len(set(items)) == 20 and set(items) <= known and scores == sorted(scores, reverse=True)
    about = json.loads(STAGE.writes(workspace, settings)[1].read_text())
    assert about["users"] == 60 and about["validity"] == 1.0 and about["beams"] == 20 and about["window"] == 7
    assert {"recall@1", "recall@5", "recall@10", "ndcg@10", "coverage", "intervals"} <= about.keys()
    popular = set(popular_items(training_histories(workspace), ItemIndex.load(workspace.item_index).item_ids))
    first = [item for items in rows["recommendations"].to_list() for item in items[:10]]
    assert about["popular_share"] == pytest.approx(sum(item in popular for item in first) / len(first))
    assert about["coverage"] == pytest.approx(len(set(first)) / len(known))
    before = written(workspace, settings)
    STAGE.run(workspace, EvaluateSettings(prompts_at_once=60))
    after = read_evaluation(workspace.evaluation("sft", "direct", "test"))
    assert [sorted(items) for items in after["recommendations"]] == [sorted(items) for items in rows["recommendations"]]
    STAGE.run(workspace, settings)
    assert written(workspace, settings) == before


def test_what_was_seen_can_be_left_out(workspace):
    settings = EvaluateSettings(exclude_seen=True, split="valid")
    STAGE.run(workspace, settings)
    rows = read_evaluation(workspace.path("evaluation", "sft", "direct-valid-unseen"))
    for case, items in zip(evaluation_cases(workspace, "valid"), rows["recommendations"].to_list(), strict=True):
        assert items and not set(items) & set(case.history)


def test_reasoning_mode_keeps_every_sample(workspace):
    settings = EvaluateSettings(**REASON, rows_at_once=30)
    STAGE.run(workspace, settings)
    rows = read_evaluation(workspace.evaluation("sft", "reason", "test"))
    assert len(rows) == 60 and set(rows["item"].list.len()) == {3} == set(rows["text"].list.len())
    about = json.loads(STAGE.writes(workspace, settings)[1].read_text())
    assert {"pass@1", "pass@3", "first@3", "well_formed", "mean_reward", "validity", "faithful"} <= about.keys()
    assert about["system_prompt"] == "short" and about["users"] == 60
    # Other batches, the same samples; another seed, others.
    STAGE.run(workspace, EvaluateSettings(**REASON, rows_at_once=512))
    again = read_evaluation(workspace.evaluation("sft", "reason", "test"))
    assert again["text"].to_list() == rows["text"].to_list()
    STAGE.run(workspace, EvaluateSettings(**REASON, seed=1))
    other = read_evaluation(workspace.evaluation("sft", "reason", "test"))
    assert other["text"].to_list() != rows["text"].to_list()


def test_thinking_then_ranking_gives_recall_beside_pass(workspace):
    settings = EvaluateSettings(**REASON, rank=True, beams=7, limit=6, normalisation="vocabulary", tokens_at_once=99)
    STAGE.run(workspace, settings)
    rows = read_evaluation(STAGE.writes(workspace, settings)[0])
    about = json.loads(STAGE.writes(workspace, settings)[1].read_text())
    assert {"pass@1", "recall@1", "ndcg@3", "written_items"} <= about.keys() and about["rank"]
    known = set(ItemIndex.load(workspace.item_index).item_ids)
    for items, scores in rows.select("recommendations", "scores").rows():
        assert len(items) in (0, 7) and set(items) <= known and scores == sorted(scores, reverse=True)


def test_two_models_are_paired(workspace):
    for model in ("sft", "srpo"):
        STAGE.run(workspace, EvaluateSettings(model=model, limit=20))
    stems = [workspace.path("evaluation", model, "direct-test-first20") for model in ("sft", "srpo")]
    found = compare(*stems, "recall@10")
    assert found.users == 20 and found.low <= found.difference <= found.high
    with pytest.raises(GreamError, match="needs the samples"):
        compare(*stems, "reward")


def test_it_goes_on_where_it_was_interrupted(workspace, monkeypatch):
    settings = EvaluateSettings(**REASON, rows_at_once=30)
    STAGE.run(workspace, settings)
    expected = written(workspace, settings)
    for path in STAGE.writes(workspace, settings):
        path.unlink()
    answer, answered = shards.answer, []

    def interrupted(modes, task, cases):
        if len(answered) == 3:
            raise KeyboardInterrupt
        answered.append([case.user_id for case in cases])
        return answer(modes, task, cases)

    monkeypatch.setattr(shards, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(workspace, settings)
    assert not any(path.exists() for path in STAGE.writes(workspace, settings))
    monkeypatch.setattr(shards, "answer", lambda *given: answered.append(0) or answer(*given))
    STAGE.run(workspace, settings)
    assert written(workspace, settings) == expected
    assert len(answered) == 6  # 60 users, ten at a time, three pieces before and three after
    assert not list(workspace.path("evaluation", "sft").glob(".*"))


def test_pieces_of_another_evaluation_are_not_used(workspace, tmp_path):
    path = tmp_path / "sft" / "direct-test"
    cases = [Case("u1", ("i1",), "i2")]
    first = shards.Shards(path, "one")
    rows = first.write(0, ranked_rows(cases, [[("i2", 1.0)]]))
    assert shards.Shards(path, "one").read(0, cases).equals(rows)
    assert shards.Shards(path, "one").read(0, [Case("u2", (), "i1")]) is None
    first.folder.joinpath("000000.parquet").write_bytes(b"half a file")
    assert shards.Shards(path, "one").read(0, cases) is None
    assert shards.Shards(path, "two").read(0, cases) is None and not first.folder.exists()
    about = {"beams": 20}
    key = shards.identity(about, [workspace.item_index])
    assert key == shards.identity({"beams": 20}, [workspace.item_index])
    assert key != shards.identity({"beams": 10}, [workspace.item_index])
    assert key != shards.identity(about, [workspace.interactions])


def test_a_sample_is_scored_as_rl_scores_it():
    index = synthetic_index([f"i{number}" for number in range(40)], "colliding")
    target, near = "i9", "i17"
    texts = [f"<think>so</think> <answer>{index.text(item)}</answer>" for item in (target, near)]
    samples = [
        Reasoning(texts[0], target, "answered", True, "answer", 9),
        Reasoning(texts[1], near, "answered", True, "answer", 9),
        Reasoning("<think>so", None, "truncated", False, "length", 2),
    ]
    row = reasoned_row(index, Case("u", ("i1",), target), samples, votes(samples), beta=0.5)
    assert row["status"] == ["exact", "partial", "unfinished_reasoning"]
    assert row["well_formed"] == [True, True, False] and row["truncated"] == [False, False, True]
    assert row["matched_levels"][0] == 5 and 1 <= row["matched_levels"][1] < 5
    assert row["reward"] == pytest.approx([1.0, (row["matched_levels"][1] / 5) ** 0.5, 0.0])
    assert row["item"] == [target, near, None] and row["recommendations"] == [target, near]


def test_how_faithful_written_histories_are():
    """Items of the user's history among those that are named between thinking and answer; nothing else counts."""
    index = synthetic_index([f"i{number}" for number in range(40)], "colliding")
    i1, i2, i9 = (index.text(item) for item in ("i1", "i2", "i9"))
    texts = [
        f"<think>{i9} {i9}</think> You had {i1}, {i2}. <answer>{i9}</answer>",
        f"<think>so</think> You had {i2}, {i9} <answer>{i9}</answer>",
        "<think>so",
    ]
    cases = [Case("u", ("i1", "i2"), "i3"), Case("v", ("i9",), "i3")]
    rows = pl.DataFrame({"user_id": ["v", "u"], "text": [[texts[1]] * 2 + [texts[2]], texts]})
    found = faithfulness(index, cases, rows)
    assert found == {"written_items": pytest.approx(8 / 6), "faithful": pytest.approx((2 + 2 + 1) / 8)}
    nothing = pl.DataFrame({"user_id": ["u"], "text": [["<think>so"]]})
    assert faithfulness(index, cases, nothing) == {"written_items": 0.0, "faithful": None}


def test_scores_of_equation_1_count_what_the_catalogue_forbids(workspace):
    """So they are lower, and evaluations of both kinds are not compared."""
    rows = {}
    for normalisation in ("catalogue", "vocabulary"):
        settings = EvaluateSettings(normalisation=normalisation, limit=9, model="srpo")
        STAGE.run(workspace, settings)
        rows[normalisation] = read_evaluation(STAGE.writes(workspace, settings)[0])
        assert json.loads(STAGE.writes(workspace, settings)[1].read_text())["normalisation"] == normalisation
    best = {name: [scores[0] for scores in one["scores"].to_list()] for name, one in rows.items()}
    assert all(low < high for low, high in zip(best["vocabulary"], best["catalogue"], strict=True))


@pytest.mark.parametrize("beta", [0.25, 1.0])
@pytest.mark.parametrize("slot", ["always", "colliding"])
def test_an_identifier_without_a_slot_is_an_answer_where_there_are_such(slot, beta):
    """And none where every item has a slot; the reward is eq. 14's, of identifiers of either length."""
    index = synthetic_index([f"i{number}" for number in range(40)], slot)
    target = index.item_ids[0]
    for item in index.item_ids:
        text = f"<think>so</think> <answer>{index.text(item)}</answer>"
        cut = f"<think>so</think> <answer>{''.join(index.identifier(item)[:-1])}</answer>"
        samples = [Reasoning(one, None, "answered", True, "answer", 9) for one in (text, cut)]
        row = reasoned_row(index, Case("u", (), target), samples, votes(samples), beta)
        assert row["well_formed"][0] and (row["status"][0] == "exact") == (item == target)
        assert row["reward"][0] == pytest.approx((row["matched_levels"][0] / index.length) ** beta)
        both = list(zip(index.identifier(item), index.identifier(target), strict=False))
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], both)))
        assert row["matched_levels"][0] == (index.length if item == target else shared)
        # Without its last token it is an answer only where some items have so few.
        some = slot == "colliding" and len(index.identifier(item)) == index.length
        assert row["well_formed"][1] == some


def test_a_users_seed_is_the_users_own():
    seeds = {user_seed(seed, user) for seed in (0, 1, 10) for user in ("u1", "u2", "0u1", "")}
    assert len(seeds) == 12 and user_seed(0, "u1") in seeds


def test_mistakes_are_named_before_the_work(workspace, tmp_path):
    for wrong in (
        {"beams": 5},
        {"n": 3, "mode": "reason"},
        {"mode": "reason", "constrained": False, "exclude_seen": True},
        {"cutoffs": (1, 1)},
    ):
        with pytest.raises(GreamError):
            EvaluateSettings(**wrong)
    with pytest.raises(GreamError, match="no model folder"):
        STAGE.run(workspace, EvaluateSettings(model="nonsense"))
    # A folder that is no model is not read to its last file.
    assert STAGE.reads(workspace, EvaluateSettings(model=f"{tmp_path}/"))[0] == tmp_path / "config.json"
    other = make_workspace(tmp_path)
    frame = pl.read_parquet(other.interactions).with_columns(item_id=pl.lit("stranger"))
    write_table(frame, other.interactions, INTERACTIONS)
    with pytest.raises(GreamError, match="'stranger' is not in the item index"):
        STAGE.run(other, EvaluateSettings(model=str(workspace.model("sft"))))


@pytest.mark.parametrize("device", ["zzz", "cuda:99", "meta", ""])
def test_a_device_that_is_not_there(workspace, tmp_path, device):
    """Named before anything is read: there is not even a workspace."""
    with pytest.raises(GreamError, match=f"--device {device}: torch finds no such device here, only cpu"):
        STAGE.run(Workspace(tmp_path), EvaluateSettings(device=device))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is missing, which says how the model is asked: `gream upgrade`"),
        ("[]", "is damaged"),
        ('{"kind": "gream_model", "version": 9}', "is 'gream_model' version 9"),
        ('{"kind": "gream_model", "version": 1}', "is damaged: it has no prompt settings"),
    ],
)
def test_a_model_whose_folder_does_not_say_how_it_is_asked(workspace, tmp_path, content, said):
    """In silence it would be asked with defaults; the record of another stage is nothing that an answer depends on."""
    model = shutil.copytree(workspace.model("sft"), tmp_path / "model")
    (model / "gream_model.json").unlink()
    if content is not None:
        (model / "gream_model.json").write_text(content)
    with pytest.raises(GreamError, match=re.escape(said)):
        STAGE.run(workspace, EvaluateSettings(model=str(model), limit=1))


def test_another_stage_run_again_asks_an_unchanged_model_the_same(workspace):
    settings = EvaluateSettings(limit=3)
    STAGE.run(workspace, settings)
    before = written(workspace, settings)
    record = workspace.path("stages", "corpus-reason.json")
    record.parent.mkdir(exist_ok=True)
    record.write_text('{"settings": {"window": 2, "system_prompt": "short"}}')
    STAGE.run(workspace, settings)
    assert written(workspace, settings) == before


def test_a_trial_leaves_the_full_evaluation_alone(workspace):
    STAGE.run(workspace, EvaluateSettings())
    before = written(workspace, EvaluateSettings())
    trial = EvaluateSettings(limit=3)
    STAGE.run(workspace, trial)
    assert written(workspace, EvaluateSettings()) == before
    table, about = STAGE.writes(workspace, trial)
    assert about == workspace.path("evaluation", "sft", "direct-test-first3.json")
    assert json.loads(about.read_text())["users"] == len(pl.read_parquet(table)) == 3
    assert STAGE.label_of(trial) == "evaluate sft direct test first3" != STAGE.label_of(EvaluateSettings())
    read = REPORT.reads(workspace, ReportSettings())
    assert STAGE.writes(workspace, EvaluateSettings())[1] in read and about not in read


def test_a_model_by_its_folder_and_its_label(workspace):
    settings = EvaluateSettings(model=str(workspace.model("srpo")), limit=3, mode="direct")
    STAGE.run(workspace, settings)
    assert STAGE.writes(workspace, settings)[0] == workspace.path("evaluation", "srpo", "direct-test-first3.parquet")
    assert STAGE.label_of(EvaluateSettings(exclude_seen=True)) == "evaluate sft direct test unseen"


def test_a_foreign_model_takes_nobodys_place(workspace, tmp_path, monkeypatch):
    """Whatever its folder is called, and wherever it stands."""
    monkeypatch.chdir(tmp_path)
    own = {STAGE.writes(workspace, EvaluateSettings(model=name))[0] for name in ("sft", "srpo", "base_model")}
    taken = {
        *own,
        *BASELINES.writes(workspace, BaselinesSettings()),
        workspace.path("evaluation/TIGER/direct-test.parquet"),
    }
    written, labels = set(), set()
    for name in ("sft", "popular", "TIGER"):
        for parent in (tmp_path, tmp_path / "deeper"):
            shutil.copytree(workspace.model("srpo"), parent / name)
            settings = EvaluateSettings(model=f"./{(parent / name).relative_to(tmp_path)}", limit=3)
            STAGE.run(workspace, settings)
            table, about = STAGE.writes(workspace, settings)
            assert re.fullmatch(rf"{name}-[0-9a-f]{{8}}", table.parent.name)
            assert json.loads(about.read_text())["model"] == table.parent.name
            written.add(table.with_name("direct-test.parquet"))
            labels.add(slug(STAGE.label_of(settings)))
    assert len(written) == len(labels) == 6 and not written & taken
    # A name without a slash is the workspace's own where there is such a one, and never the working folder's.
    assert STAGE.writes(workspace, EvaluateSettings(model="sft"))[0] in own
    assert STAGE.writes(workspace, EvaluateSettings(model="popular"))[0].with_name("direct-test.parquet") in written
    same = {STAGE.writes(workspace, EvaluateSettings(model=one))[0].parent for one in ("./sft", str(tmp_path / "sft"))}
    assert len(same) == 1, "a name of its own however it is spelled"


def test_figures_know_their_model_and_pieces_are_no_other_models(workspace, tmp_path, monkeypatch):
    """Same file names, sizes and times: what tells two models apart is what stands in their files."""
    here = make_workspace(tmp_path)
    shutil.copytree(workspace.model("sft"), here.model("sft"))
    settings = EvaluateSettings(**REASON, rows_at_once=30)
    STAGE.run(here, settings)
    about = json.loads(STAGE.writes(here, settings)[1].read_text())
    assert (
        about["model_sha256"]
        == model_hash(here.model("sft"), here.item_index)
        != model_hash(workspace.model("srpo"), here.item_index)
    )
    answer, answered = shards.answer, []

    def interrupted(*given):
        if len(answered) == 3:
            raise KeyboardInterrupt
        answered.append(0)
        return answer(*given)

    monkeypatch.setattr(shards, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(here, settings)
    weights = here.model("sft") / "model.safetensors"
    before = weights.stat()
    weights.write_bytes(workspace.model("srpo").joinpath("model.safetensors").read_bytes())
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert weights.stat().st_size == before.st_size
    answered.clear()
    monkeypatch.setattr(shards, "answer", lambda *given: answered.append(0) or answer(*given))
    STAGE.run(here, settings)
    assert len(answered) == 6, "no piece of the other model was taken"
    other = EvaluateSettings(**REASON, rows_at_once=30, model="srpo")
    STAGE.run(workspace, other)
    tables = [read_evaluation(STAGE.writes(place, one)[0]) for place, one in ((here, settings), (workspace, other))]
    assert tables[0]["text"].to_list() == tables[1]["text"].to_list()


def test_pieces_of_other_interactions_are_not_used(workspace, tmp_path, monkeypatch):
    """The same users were asked, with other histories."""
    here = make_workspace(tmp_path)
    settings = EvaluateSettings(**REASON, rows_at_once=30, model=str(workspace.model("sft")))
    answer, answered = shards.answer, []

    def interrupted(*given):
        answered.append(0)
        if len(answered) == 3:
            raise KeyboardInterrupt
        return answer(*given)

    monkeypatch.setattr(shards, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(here, settings)
    frame = pl.read_parquet(here.interactions)
    write_table(frame.with_columns(position=-pl.col("position")), here.interactions, INTERACTIONS)
    STAGE.run(here, settings)
    assert len(answered) == 3 + 6, "all pieces anew"


@pytest.mark.parametrize("changed", [{"mode": "direct"}, REASON])
def test_who_has_seen_everything_is_a_miss(workspace, tmp_path, changed, capsys):
    """For models and baselines alike; and the share of targets that are impossible is said."""
    here = make_workspace(tmp_path, users=6, items=12)
    index = ItemIndex.load(here.item_index)
    model, tokenizer = tiny_chat_model(index)
    model.save_pretrained(here.model("sft"))
    tokenizer.save_pretrained(here.model("sft"))
    write_format(here.model("sft"), ModelFormat())
    frame = pl.read_parquet(here.interactions).filter(pl.col("user_id") != "u0")
    for number, item in enumerate([*index.item_ids, index.item_ids[0]]):
        split = {len(index): "test", len(index) - 1: "valid"}.get(number, "train")
        row = pl.DataFrame({"user_id": "u0", "item_id": item, "position": number, "timestamp": None, "split": split})
        frame = pl.concat([frame, row.cast(dict(frame.schema))])
    write_table(frame, here.interactions, INTERACTIONS)
    cases = evaluation_cases(here, "test")
    share = sum(case.target in case.history for case in cases) / len(cases)
    assert share >= 1 / 6
    settings = EvaluateSettings(**changed, exclude_seen=True, prompts_at_once=2)
    STAGE.run(here, settings)
    BASELINES.run(here, BaselinesSettings())
    said = f"{share:.1%} of the targets were seen before, so that excluding seen items makes them impossible"
    assert capsys.readouterr().out.count(said) == 4
    for path in (STAGE.writes(here, settings)[0], here.path("evaluation", "markov", "direct-test-unseen.parquet")):
        rows = read_evaluation(path)
        [row] = rows.filter(pl.col("user_id") == "u0").to_dicts()
        assert row["recommendations"] == [] and len(rows) == len(cases)
        assert set(row["item"]) <= {None} and set(row["status"]) <= {"nothing_left"} and not any(row["reward"])
        about = json.loads(path.with_suffix(".json").read_text())
        assert about["impossible_targets"] == pytest.approx(share) and about["users"] == len(cases)
        assert not set(rows["target"]) - set(index.item_ids)
    if changed is REASON:
        assert read_evaluation(STAGE.writes(here, settings)[0])["item"].list.len().to_list() == [3] * len(cases)


def test_the_module_of_the_stage_imports_fast():
    import subprocess
    import sys

    code = "import sys, gream_ext.evaluation.stages; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
