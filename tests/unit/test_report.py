"""The stage ``report`` on made-up workspaces, whole ones and such as have only begun."""

import importlib
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest

from gream_ext.cli import main
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import Evaluations, model_hash, read_evaluation, stem, write_evaluation
from gream_ext.evaluation.protocol import values
from gream_ext.evaluation.stages import BaselinesSettings
from gream_ext.extras.report.data import baseline_figures, command_text, gather
from gream_ext.extras.report.page import page, run
from gream_ext.extras.report.stages import STAGE, ReportSettings
from gream_ext.extras.report.users import users
from gream_ext.pipeline.record import run_stage
from gream_ext.stage import Stage
from gream_ext.workspace import ITEMS, Workspace, read_table, write_json, write_table

VOID = {"meta", "link", "br", "img", "input", "hr"}
TOP = ["dataset", "stages", "baselines", "sft", "srpo", "rl", "excluding_seen", "seeds"]


def demo() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "examples" / "report_demo")
        return importlib.import_module("make_demo")


@pytest.fixture(scope="module", autouse=True)
def few_pairs() -> Iterator[None]:
    """The quality of the index is not what is tested here: a rough estimate will do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gream_ext.items.measures.PAIRS", 500)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo().make_demo(tmp_path_factory.mktemp("report") / "whole", users=60, items=96)


@pytest.fixture(scope="module")
def reported(made: Workspace) -> Workspace:
    run(made, ReportSettings(title="A <b>shop</b>", banner="made up & labelled"))
    return made


@pytest.fixture
def workspace(made: Workspace, tmp_path: Path) -> Workspace:
    """A copy to harm."""
    return Workspace(shutil.copytree(made.root, tmp_path / "copy"))


def report_of(workspace: Workspace) -> dict[str, Any]:
    return json.loads(workspace.path("report.json").read_text())


class Reader(HTMLParser):
    """Notes unclosed and foreign elements and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read_page(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_report_json_has_the_agreed_structure(reported: Workspace) -> None:
    report = report_of(reported)
    assert set(TOP) < set(report)
    assert report["dataset"]["users"] == 60
    assert report["stages"]["sft"] == 588.0
    assert list(report["baselines"]) == ["popular", "markov"]
    for model in ("sft", "srpo"):
        assert {"recall@1", "recall@10", "ndcg@10"} < set(report[model]["direct"])
        assert {"pass@1", "pass@10", "well_formed"} < set(report[model]["reason"])
        assert "recall@10" in report["excluding_seen"][model]["direct"]
    assert "recall@10" in report["baselines"]["markov"]
    assert "recall@10" in report["excluding_seen"]["baselines"]["popular"]
    assert report["seeds"] == [0]
    assert report["rl"]["steps"] == 60
    assert "temperature" not in report["sft"]["reason"], "a setting is no figure"


def test_the_gain_of_rl_is_paired_over_validation_prompts(reported: Workspace) -> None:
    before, after = (
        values(read_evaluation(stem(reported, model, "reason", "valid", False)).sort("user_id"), "reward")
        for model in ("sft", "srpo")
    )
    rl = report_of(reported)["rl"]
    assert rl["reward_before"] == pytest.approx(before.mean())
    assert rl["reward_after"] == pytest.approx(after.mean())
    assert rl["standard_error"] == pytest.approx((after - before).std(ddof=1) / np.sqrt(60))


def test_the_page_needs_nothing_else_and_is_whole(reported: Workspace) -> None:
    text = reported.path("report.html").read_text()
    reader = read_page(text)
    assert all(address.startswith("#") for address in reader.addresses)
    assert not {"script", "img", "link", "iframe"} & reader.tags
    assert text.count("<svg") >= 7
    assert "A &lt;b&gt;shop&lt;/b&gt;" in text
    assert "made up &amp; labelled" in text
    for heading in ("Results", "Supervised training", "Reinforcement learning", "Item index", "A few users"):
        assert f">{heading}</h2>" in text
    assert "Step 1: Extraction of Behavioral Evidence:" in text
    assert "<|a_" not in text, "identifiers are shown as titles"
    assert "&lt;|a_" not in text
    assert "&lt;think&gt;" not in text


def test_the_terminal_shows_the_table(made: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run(made, ReportSettings(users=0))
    said = capsys.readouterr().out
    assert "Recall@10" in said
    assert "before RL" in said
    assert "Align − Markov, Recall@10:" in said
    assert "60 users" in said


def test_before_rl_the_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = demo().make_demo(tmp_path / "half", users=30, items=64, rl=False)
    run(workspace, ReportSettings(users=2))
    report = report_of(workspace)
    assert report["srpo"] is None
    assert report["rl"] is None
    assert report["excluding_seen"]["srpo"] is None
    assert report["sft"]["direct"]["recall@10"] is not None
    text = workspace.path("report.html").read_text()
    read_page(text)
    assert "No figures after reinforcement learning yet" in text
    assert "has no reinforcement learning yet: run `gream rl`" in text


def test_an_empty_workspace_has_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace(tmp_path)
    run(workspace, ReportSettings())
    assert all(report_of(workspace)[key] in (None, [], {}) for key in TOP if key != "excluding_seen")
    assert "nothing evaluated yet" in capsys.readouterr().out
    read_page(workspace.path("report.html").read_text())


def test_the_same_workspace_gives_the_same_files(workspace: Workspace) -> None:
    run(workspace, ReportSettings())
    first = [workspace.path(name).read_bytes() for name in ("report.json", "report.html")]
    run(workspace, ReportSettings())
    assert [workspace.path(name).read_bytes() for name in ("report.json", "report.html")] == first


def test_half_of_the_shown_users_are_hits_and_the_seed_draws_them(workspace: Workspace) -> None:
    rows = read_evaluation(stem(workspace, "srpo", "direct", "test", False))
    assert values(rows, "recall@10").sum() >= 2
    shown = users(workspace, 4)
    assert sum(user["badges"][0].startswith("found") for user in shown) >= 2
    assert users(workspace, 4) == shown
    assert [user["user_id"] for user in users(workspace, 4, seed=1)] != [user["user_id"] for user in shown]
    assert users(workspace, 0) == []
    assert len(users(workspace, 10_000)) == 60
    for user in shown:
        assert sum(item["hit"] for item in user["direct"]) == user["badges"][0].startswith("found")


def test_titles_cannot_break_the_page(workspace: Workspace) -> None:
    nasty = "<script>alert(1)</script>\"'&"
    items = read_table(workspace.items, ITEMS, "prepare").with_columns(title=pl.lit(nasty))
    write_table(items, workspace.items, ITEMS)
    run(workspace, ReportSettings())
    text = workspace.path("report.html").read_text()
    assert "script" not in read_page(text).tags
    assert "&lt;script&gt;" in text


def test_what_cannot_be_paired_is_told_and_stops_nothing(workspace: Workspace) -> None:
    for split in ("test", "valid"):
        path = stem(workspace, "srpo", "reason", split, False)
        write_evaluation(path, read_evaluation(path)[:-1], {"pass@1": 0.5}, {"mode": "reason"})
    run(workspace, ReportSettings())
    report = report_of(workspace)
    assert report["rl"]["reward_after"] is None
    assert report["rl"]["steps"] == 60
    assert len(report["notes"]) == 3
    assert "cannot be compared" in workspace.path("report.html").read_text()


def test_without_any_log_of_training_the_figures_stand(workspace: Workspace) -> None:
    workspace.path("rl", "metrics.jsonl").unlink()
    (workspace.model("sft") / "curriculum_log.jsonl").unlink()
    run(workspace, ReportSettings())
    assert report_of(workspace)["rl"]["steps"] is None
    assert report_of(workspace)["rl"]["reward_after"] is not None
    assert "Verl left no log of its steps" in read_page_text(workspace)


def read_page_text(workspace: Workspace) -> str:
    text = workspace.path("report.html").read_text()
    read_page(text)
    return text


def test_other_seeds_are_pooled_over_users(workspace: Workspace, tmp_path: Path) -> None:
    other = demo().make_demo(tmp_path / "other", users=60, items=96)
    record = other.path("stages", "sft.json")
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 7'))
    report = gather(workspace, [other])
    assert report["seeds"] == [0, 7]
    assert [one["seed"] for one in report["runs"]] == [0, 7]
    pooled = next(one for one in report["comparisons"] if one["name"] == "Align − Markov, 2 seeds")
    recalls = [
        values(read_evaluation(stem(one, model, "direct", "test", False)).sort("user_id"), "recall@10")
        for one, model in ((workspace, "sft"), (other, "sft"), (workspace, "markov"))
    ]
    gains = (recalls[0] + recalls[1]) / 2 - recalls[2]
    assert pooled["difference"] == pytest.approx(gains.mean())
    assert pooled["standard_error"] == pytest.approx(gains.std(ddof=1) / np.sqrt(60))
    with pytest.raises(GreamError, match="is no workspace"):
        run(workspace, ReportSettings(other_runs=[str(tmp_path / "nothing")]))
    for twice in ([workspace.root], [other.root, tmp_path / "." / "other"]):
        with pytest.raises(GreamError, match="a run counts once"):
            run(workspace, ReportSettings(other_runs=[str(one) for one in twice]))
    read = STAGE.reads(workspace, ReportSettings(other_runs=[str(other.root)]))
    assert stem(other, "markov", "direct", "test", False).with_name("direct-test.json") in read


def test_a_damaged_file_is_named(workspace: Workspace) -> None:
    workspace.path("stages", "sft.json").write_text("{")
    with pytest.raises(GreamError, match=r"sft\.json is damaged"):
        run(workspace, ReportSettings())


@pytest.mark.parametrize("value", ["5", "[]", "null", '"text"'])
@pytest.mark.parametrize("name", ["statistics.json", "index_quality.json", "evaluation/sft/direct-test.json"])
def test_a_file_that_holds_no_object_is_named(
    workspace: Workspace, name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.path(name).write_text(value)
    assert main(["report", "--workspace", str(workspace.root)]) == 2
    assert f"{name} is damaged (it holds no JSON object): run `gream " in capsys.readouterr().err


def test_a_later_evaluation_makes_the_report_out_of_date(workspace: Workspace) -> None:
    (workspace.model("sft") / "trainer_log.jsonl").write_text("")
    read = STAGE.reads(workspace, ReportSettings())
    for name in (
        "evaluation/sft/direct-test.json", "evaluation/sft/direct-test.parquet", "interactions.parquet",
        "items.parquet", "item_index.parquet", "sft/trainer_log.jsonl", "sft/curriculum_log.jsonl",
    ):  # fmt: skip
        assert workspace.path(name) in read, name
    assert all(path.exists() for path in read)


def test_a_stage_as_a_command_line() -> None:
    record = {
        "label": "sft",
        "stage": "sft",
        "settings": {"recipe": "x", "processes": None, "overrides": {"seed": 1}, "flag": False, "cutoffs": [1, 5]},
    }
    assert command_text(record).split(" \\\n    ") == [
        "gream sft", "--recipe x", "--overrides seed=1", "--no-flag", "--cutoffs 1 5",
    ]  # fmt: skip


def test_a_page_of_a_report_json_alone() -> None:
    read_page(page({"sft": {"direct": {"recall@10": 0.1}}}))


def test_interrupted_attempts_count_in_the_time(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those with other settings do not."""
    clock = [0.0]
    monkeypatch.setattr("gream_ext.pipeline.record.time.monotonic", lambda: clock[0])
    fails = [True]

    def work(place: Workspace, settings: BaselinesSettings) -> None:
        clock[0] += 100.0
        if fails[0]:
            raise KeyboardInterrupt
        place.path("made").write_text("x")

    stage = Stage("baselines", BaselinesSettings, work, writes=lambda place, settings: [place.path("made")])
    for settings in (BaselinesSettings(), BaselinesSettings(), BaselinesSettings(split="valid")):
        with pytest.raises(KeyboardInterrupt):
            run_stage(stage, workspace, settings)
    fails[0] = False
    run_stage(stage, workspace, BaselinesSettings(split="valid"))
    assert gather(workspace)["stages"]["baselines"] == 200.0
    run_stage(stage, workspace, BaselinesSettings(split="valid"), force=True)
    assert gather(workspace)["stages"]["baselines"] == 100.0, "each attempt counts once"


def with_model(workspace: Workspace, name: str, config: str) -> None:
    workspace.model(name).mkdir(exist_ok=True)
    (workspace.model(name) / "config.json").write_text(config)


def test_the_report_takes_figures_of_the_models_that_stand_there(workspace: Workspace, tmp_path: Path) -> None:
    for name in ("sft", "srpo"):
        with_model(workspace, name, "{}")
        here = model_hash(workspace.model(name), workspace.item_index)
        for about in workspace.path("evaluation", name).glob("*.json"):
            write_json(about, {**json.loads(about.read_text()), "model_sha256": here})
    before = gather(workspace)
    assert not before["notes"] and before["srpo"]["direct"] and before["rl"]["reward_after"]
    with_model(workspace, "srpo", '{"trained": "again"}')
    report = gather(workspace)
    assert report["srpo"] is None and report["excluding_seen"]["srpo"] is None and report["rl"]["reward_after"] is None
    assert report["sft"] == before["sft"] and not any("RL" in one["name"] for one in report["comparisons"])
    assert (
        "evaluation/srpo/direct-test.json is not of the srpo model that stands here now: run `gream evaluate` again"
        in report["notes"]
    )
    assert len(set(report["notes"])) == len(report["notes"]) == 4
    workspace.item_index.write_bytes(workspace.item_index.read_bytes() + b" ")
    assert gather_figures(workspace) == (None, None, before["baselines"])


def gather_figures(workspace: Workspace) -> tuple[Any, Any, Any]:
    found = Evaluations(workspace)
    return found.by_mode("sft"), found.by_mode("srpo"), baseline_figures(found, exclude_seen=False)


def test_figures_of_seen_items_excluded_are_its_own(workspace: Workspace) -> None:
    report = gather(workspace)
    for name in ("popular", "markov"):
        for figures, unseen in ((report["baselines"], False), (report["excluding_seen"]["baselines"], True)):
            rows = read_evaluation(stem(workspace, name, "direct", "test", unseen))
            assert figures[name]["recall@10"] == pytest.approx(values(rows, "recall@10").mean())
    for name in ("sft", "srpo"):
        for figures, unseen in ((report, False), (report["excluding_seen"], True)):
            rows = read_evaluation(stem(workspace, name, "direct", "test", unseen))
            assert figures[name]["direct"]["recall@10"] == pytest.approx(values(rows, "recall@10").mean())
    plain, unseen_too = report["baselines"]["markov"], report["excluding_seen"]["baselines"]["markov"]
    assert plain["recall@10"] != unseen_too["recall@10"]
    by_name = {one["name"]: one for one in report["comparisons"]}
    pairs = {False: "Align − Markov", True: "Align − Markov, seen excluded"}
    for unseen, name in pairs.items():
        rows = [
            read_evaluation(stem(workspace, one, "direct", "test", unseen)).sort("user_id") for one in ("markov", "sft")
        ]
        gains = values(rows[1], "recall@10") - values(rows[0], "recall@10")
        assert by_name[name]["difference"] == pytest.approx(gains.mean())
