"""The pieces of the report: charts, curves, the results table, a reasoning for human eyes."""

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.curriculum import KINDS, PHASES, CurriculumSettings, plan_epoch
from gream_ext.extras.report.charts import (
    MOST_POINTS,
    comparison_charts,
    level_tone,
    rl_charts,
    sft_charts,
    thinned,
    verdict,
)  # fmt: skip
from gream_ext.extras.report.curves import RlStep, SftStep, mixture, rl_steps, sft_steps, smooth
from gream_ext.extras.report.page import page, sft_note, tiles
from gream_ext.extras.report.plot import TONES, label, picture
from gream_ext.extras.report.table import Cell, markdown_table, results_table, terminal_table
from gream_ext.extras.report.users import Span, parts, spans
from gream_ext.identifiers import Identifier
from gream_ext.workspace import Workspace

RESPONSE = """<think>
Step 1: Extraction of Behavioral Evidence: the user turned to <|a_1|><|b_2|>.
Step 2: Modeling of Latent Preferences: comedies.
Step 3: Inference of User Intent and Goal Formulation: another one.
</think>
Let's rewrite the user's purchase history: <|a_1|><|b_2|>, <|a_9|><|b_9|>.
It is light.
Based on the above analysis, the recommended product is <answer><|a_1|><|b_3|></answer>"""


def title_of(identifier: Identifier) -> str | None:
    return {("<|a_1|>", "<|b_2|>"): "Velta <&>", ("<|a_1|>", "<|b_3|>"): "Brokai"}.get(identifier)


def texts(picture: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("text")]


def test_a_picture_lies_in_the_page() -> None:
    """Text stays text and is escaped, colours are the page's, the name is for those who cannot see it."""
    nasty = '<script>alert("x")</script> $x$'

    def draw(axes: Any) -> None:
        axes.plot([1, 2, 3, 4], [0.5, 2.0, math.nan, 0.7], color=TONES["reason"])
        label(axes, nasty, "loss")

    made = picture(nasty, draw)
    assert (
        "<script>" not in made
        and "<?xml" not in made
        and "<style" not in made
        and not re.search('#[0-9a-f]{6}[;"]', made)
    )
    assert {nasty, "loss"} <= set(texts(made)) and "var(--reason)" in made
    root = ElementTree.fromstring(made)
    assert root.get("role") == "img" and root.find("{*}title").text == nasty  # type: ignore[union-attr]
    assert root.get("viewBox") and not root.get("width"), "as wide as its card"
    [line] = [path.get("d", "") for path in root.findall(".//{*}path") if "var(--reason)" in path.get("style", "")]
    assert line.count("M") == 2 or (line.count("M") == 1 and line.count("L") == 1), "what is missing breaks the line"
    assert picture(nasty, draw) == made, "the same every time"


@pytest.mark.parametrize("last", [2, 3, 7, 60, 1234])
def test_steps_are_whole_numbers(last: int) -> None:
    steps = [RlStep(n, reward=n / last, response_length=90.5 + n) for n in range(1, last + 1)]
    for chart in rl_charts(steps):
        names = texts(str(chart.picture))
        x_ticks = names[: names.index("RL step")]
        assert len(x_ticks) > 1 and all(re.fullmatch(r"[\d,]+", tick) for tick in x_ticks), x_ticks
        assert len(set(x_ticks)) == len(x_ticks), "no two of them are the same number, rounded"
        assert "RL step" in names


def test_the_loss_of_every_kind_is_drawn_in_its_colour() -> None:
    steps = [SftStep(n, 1, ("align", "reason")[n % 2], "curriculum", 0.1, 1.0 + n % 2, float(n % 2)) for n in range(40)]
    loss, mixture_of = sft_charts(steps)
    assert {"var(--align)", "var(--reason)"} <= set(re.findall(r"var\(--\w+\)", str(loss.picture)))
    assert [key.name for key in loss.keys] == ["alignment steps", "reasoning steps"]
    assert "epoch 1" in texts(str(loss.picture)) and "left-over reasoning" not in [key.name for key in mixture_of.keys]


def test_long_series_are_thinned() -> None:
    xs, ys = thinned([float(x) for x in range(5000)], [1.0] * 5000)
    assert len(xs) == len(ys) <= MOST_POINTS and (xs[0], xs[-1]) == (0.0, 4999.0)
    assert set(ys) == {1.0}
    assert thinned([], [])[0].tolist() == [] and thinned([1.0], [2.0])[1].tolist() == [2.0]


@given(st.lists(st.none() | st.floats(-10, 10), max_size=40), st.integers(1, 9))
def test_smoothing_is_the_mean_of_what_is_near(values: list[float | None], span: int) -> None:
    smoothed = smooth([math.nan if value is None else value for value in values], span)
    assert len(smoothed) == len(values)
    for place, value in enumerate(smoothed):
        start = max(0, place - span // 2)
        near = [one for one in values[start : max(0, place - span // 2 + span)] if one is not None]
        assert math.isnan(value) == (not near)
        if near:
            assert value == pytest.approx(sum(near) / len(near), abs=1e-9)


def planned_steps(align: int = 400, reason: int = 150, epochs: int = 3) -> list[SftStep]:
    settings = CurriculumSettings(epochs=epochs, batch_rows=1)
    steps: list[SftStep] = []
    for epoch in range(1, epochs + 1):
        plan = plan_epoch(align, reason, epoch, settings)
        for kind, planned, phase in zip(plan.kind, plan.planned, plan.phase, strict=True):
            name = KINDS[kind]
            steps.append(SftStep(len(steps) + 1, epoch, name, PHASES[phase], planned, 1.0, float(name == "reason")))
    return steps


def test_the_real_mixture_follows_the_plan() -> None:
    steps = planned_steps()
    found = mixture(steps, span=101)
    pairs = [(p, r) for p, r in zip(found.planned, found.real, strict=True) if not math.isnan(p + r)]
    assert len(pairs) > 500
    assert sum(abs(p - r) for p, r in pairs) / len(pairs) < 0.06
    assert len(found.steps) == len(found.planned) == len(found.real)
    leftovers = [step.step for step in steps if step.phase == "leftover"]
    assert leftovers
    for step, planned, real in zip(found.steps, found.planned, found.real, strict=True):
        if step in leftovers:
            assert math.isnan(planned) and math.isnan(real)


def test_curves_are_read_from_the_logs(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert sft_steps(workspace) == []
    assert rl_steps(workspace) == []
    log = {"step": 1, "epoch": 1, "kind": "align", "phase": "curriculum", "planned": 0.1, "loss": 7.0,
           "align_rows": 48, "reason_rows": 16}  # fmt: skip
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "curriculum_log.jsonl").write_text(json.dumps(log) + "\n" + '{"step": 2, "ep')
    assert sft_steps(workspace) == [SftStep(1, 1, "align", "curriculum", 0.1, 7.0, 0.25)]
    (tmp_path / "sft" / "curriculum_log.jsonl").unlink()
    plain = {"current_steps": 10, "total_steps": 20, "loss": 3.5, "epoch": 0.5}
    (tmp_path / "sft" / "trainer_log.jsonl").write_text(json.dumps(plain) + "\n" + '{"current_steps": 20}\n{')
    steps = sft_steps(workspace)
    assert [(step.step, step.epoch, step.kind, step.loss) for step in steps] == [(10, 1, "mixed", 3.5)]
    assert [chart.title for chart in sft_charts(steps)] == ["Training loss"]
    (tmp_path / "rl").mkdir()
    rows = [
        {
            "step": 2,
            "data": {
                "critic/score/mean": 0.9,
                "gream/rollouts/reward": 0.3,
                "gream/levels/0": 0.75,
                "gream/levels/2": 0.25,
            },
        },
        {"step": 1, "data": {"critic/score/mean": float("nan"), "response_length/mean": 90}},
        {"step": 2, "data": {"val-core/gream/reward/mean@1": 0.4}},
    ]
    (tmp_path / "rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn")
    first, second = rl_steps(workspace)
    assert (first.step, first.response_length) == (1, 90.0) and math.isnan(first.reward)
    assert (second.reward, second.matched_levels, second.validation_reward) == (0.3, (0.75, 0.0, 0.25), 0.4)


def test_charts_of_training_and_rl() -> None:
    titles = [chart.title for chart in sft_charts(planned_steps())]
    assert titles == ["Training loss", "Curriculum: planned and real"]
    steps = [RlStep(n, 0.2 + n / 100, (0.5, 0.3, 0.2), 100.0, 0.6) for n in range(1, 9)]
    charts = rl_charts(steps, 2)
    assert [chart.title for chart in charts] == [
        "Mean reward", "Matched levels", "Response length", "Of use",
    ]  # fmt: skip
    assert [key.name for key in charts[1].keys] == ["exact", "1 matched", "0 matched"]
    assert sft_charts([]) == rl_charts([]) == []
    assert [level_tone(level, 6) for level in range(6)] == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert level_tone(2, 3) == "m5"
    for chart in (*charts, *sft_charts(planned_steps(20, 5, 1))):
        ElementTree.fromstring(str(chart.picture))


def test_one_chart_of_differences_for_each_mode() -> None:
    rows = [
        {
            "name": f"one − {metric}",
            "mode": "reason" if "pass" in metric else "direct",
            "metric": metric,
            "difference": 0.1,
            "low": 0.05,
            "high": 0.15,
            "users": 7,
        }
        for metric in ("recall@10", "pass@1", "recall@10", "pass@10")
    ]
    assert [chart.title for chart in comparison_charts(rows)] == [
        "Direct mode: differences in Recall@10", "Reasoning mode: differences in Pass@1 and Pass@10",
    ]  # fmt: skip


@pytest.mark.parametrize(("low", "high", "tone"), [(0.1, 0.3, "ours"), (-0.3, -0.1, "bad"), (-0.1, 0.1, "plain")])
def test_an_interval_below_zero_looks_below_zero(low: float, high: float, tone: str) -> None:
    row = {"name": "RL − Align", "mode": "direct", "metric": "recall@10", "users": 7}
    [chart] = comparison_charts([row | {"difference": (low + high) / 2, "low": low, "high": high}])
    assert verdict(low, high) == tone
    root = ElementTree.fromstring(str(chart.picture))
    styles = [(path.get("d", ""), path.get("style", "")) for path in root.findall(".//{*}path")]
    [interval] = [d for d, style in styles if f"stroke: var(--{tone}); stroke-width: 2.4" in style]
    [zero] = [d for d, style in styles if "stroke-dasharray" in style and "var(--soft)" in style]
    xs, at_zero = [float(x) for x in re.findall(r"[ML] ([\d.]+)", interval)], float(zero.split()[1])
    assert {"ours": min(xs) > at_zero, "bad": max(xs) < at_zero, "plain": min(xs) < at_zero < max(xs)}[tone]
    assert "RL − Align" in texts(str(chart.picture))


def test_what_rl_cost_is_said_in_the_headline() -> None:
    given: dict[str, Any] = report()
    given["srpo"] = {"direct": {"recall@10": 0.11}}
    rows = [("RL − Align", -0.03, -0.01), ("RL − Markov", -0.02, 0.01)]
    given["comparisons"] = [
        {"name": name, "metric": "recall@10", "mode": "direct", "difference": 0.0, "low": low, "high": high, "users": 9}
        for name, low, high in rows
    ]
    given["stages"] = {"sft": 588.0, "rl": 402.0}
    first, last = tiles(given)
    assert first["what"] == "Recall@10, direct mode, after RL" and first["figure"] == "0.1100"
    assert [(one["change"], one["tone"], one["text"]) for one in first["changes"]] == [
        ("-0.0200", "loss", "from 0.1300 before RL"), ("-0.0100", "", "from 0.1200 of Markov"),
    ]  # fmt: skip
    assert last["figure"] == "16.5" and last["beside"].startswith("of it 6.7 min of RL")
    assert '<span class="loss">-0.0200</span> from 0.1300 before RL' in page(given)


def test_a_run_with_the_curriculum_is_not_called_without() -> None:
    step = SftStep(1, 1, "align", "curriculum", 0.1, 1.0, 0.0)
    assert "without" not in sft_note([step]) and "1 optimizer steps in 1 epoch by" in sft_note([step])
    plain_step = SftStep(10, 2, "mixed", "unplanned", math.nan, 1.0, 0.0)
    assert sft_note([plain_step]) == "10 optimizer steps in 2 epochs by LLaMA-Factory, without the curriculum."


def test_a_reasoning_in_paragraphs_with_titles() -> None:
    found = parts(RESPONSE, title_of)
    assert [part.heading for part in found[:3]] == [
        "Step 1: Extraction of Behavioral Evidence:",
        "Step 2: Modeling of Latent Preferences:",
        "Step 3: Inference of User Intent and Goal Formulation:",
    ]
    assert [part.answer for part in found] == [False, False, False, False, False, True]
    assert found[0].spans == [Span("the user turned to "), Span("Velta <&>", True), Span(".")]
    assert found[3].spans[-2] == Span("<|a_9|><|b_9|>"), "what names no item stays as it is"
    assert found[5].spans[-1] == Span("Brokai", True)


@given(st.lists(st.sampled_from([*"<|ab_12>, \n", "<|a_1|>", "<|b_2|>", "<answer>"])).map("".join))
def test_no_response_breaks_the_reader(text: str) -> None:
    parts(text, title_of)
    assert "".join(span.text for span in spans(text, lambda identifier: None)) == text


def report() -> dict[str, object]:
    direct = {"recall@1": 0.02, "recall@5": 0.07, "recall@10": 0.12, "ndcg@5": 0.05, "ndcg@10": 0.06}
    worse = {metric: value / 2 for metric, value in direct.items()}
    return {
        "baselines": {"popular": worse, "markov": direct},
        "sft": {"direct": {**direct, "recall@10": 0.13}, "reason": {"pass@1": 0.01, "well_formed": 0.9}},
        "excluding_seen": {"baselines": {"popular": worse}, "sft": {"direct": direct}},
    }


def test_the_results_table() -> None:
    table = results_table(report())
    assert table is not None
    assert [column.name for column in table.columns] == ["Most popular", "Markov", "SFT (Align)"]
    assert [row.section for row in table.rows if row.section] == [
        "Direct mode", "Reasoning mode", "Direct mode, already seen items excluded",
    ]  # fmt: skip
    row = next(row for row in table.rows if row.name == "Recall@10")
    assert [(cell.text, cell.tone) for cell in row.cells] == [
        ("0.0600", ""), ("0.1200", "second"), ("0.1300", "ours best"),
    ]  # fmt: skip
    assert results_table({}) is None
    text = terminal_table(table)
    assert "Recall@10 0.0600 0.1200 0.1300*" in " ".join(text.split())
    assert "90.0%" in text


def test_seen_items_excluded_has_its_own_figures() -> None:
    """And says which targets that rules out."""
    given: dict[str, Any] = report()
    unseen = {"recall@10": 0.17, "impossible_targets": 0.032}
    given["excluding_seen"] = {"baselines": {"TIGER": unseen}, "srpo": {"direct": {"recall@10": 0.19}}}
    table = results_table(given)
    assert table is not None
    assert [column.name for column in table.columns] == [
        "Most popular", "Markov", "TIGER", "SFT (Align)", "SRPO (RL)",
    ]  # fmt: skip
    start = [row.section for row in table.rows].index(
        "Direct mode, already seen items excluded; 3.2% of the targets were seen before and cannot be found"
    )
    [row] = table.rows[start + 1 :]
    assert (row.name, [cell.text for cell in row.cells]) == ("Recall@10", ["–", "–", "0.1700", "–", "0.1900"])
    assert [cell.tone for cell in row.cells] == ["none", "none", "second", "ours none", "ours best"]


def test_marks_of_a_row() -> None:
    """Equal figures share a mark; a row of one figure, or of equal ones, has none."""
    figures = {"a": 0.3, "b": 0.1, "c": 0.3, "d": 0.20001, "e": 0.2}
    table = results_table({"baselines": {name: {"recall@1": value, "ndcg@5": 0.5} for name, value in figures.items()}})
    assert table is not None
    rows = {row.name: [cell.tone for cell in row.cells] for row in table.rows if row.name}
    assert rows == {"Recall@1": ["best", "", "best", "second", "second"], "NDCG@5": [""] * 5}
    lines = markdown_table(table).splitlines()
    assert lines[0] == "| Metric | a | b | c | d | e |" and lines[1] == "|---|---|---|---|---|---|"
    assert lines[3].startswith("| **Direct mode** |") and lines[3].count("|") == 7
    assert lines[4] == "| Recall@1 | **0.3000** | 0.1000 | **0.3000** | <u>0.2000</u> | <u>0.2000</u> |"
    words = terminal_table(table).splitlines()
    assert words[0].split() == ["Metric", *"abcde"] and words[3].split()[1:4] == ["0.3000*", "0.1000", "0.3000*"]
    assert len(words[3].rstrip("*")) <= len(words[0]) and Cell("x").tone == ""


def test_the_band_of_a_level_is_as_high_as_its_share() -> None:
    """The exact ones lie lowest; without the length of an identifier none is called exact."""
    steps = [RlStep(n, matched_levels=(0.7, 0.2, 0.1)) for n in range(1, 9)]
    chart = next(chart for chart in rl_charts(steps, 2) if chart.title == "Matched levels")
    assert [(key.name, key.tone) for key in chart.keys] == [("exact", "m5"), ("1 matched", "m2"), ("0 matched", "m0")]
    heights = {}
    for path in ElementTree.fromstring(str(chart.picture)).findall(".//{*}path"):
        tone = re.search(r"fill: var\(--(m\d)\)", path.get("style", ""))
        if tone:
            ys = [float(y) for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path.get("d", ""))]
            heights[tone[1]] = (min(ys), max(ys))
    whole = heights["m5"][1] - heights["m0"][0]
    shares = {tone: (bottom - top) / whole for tone, (top, bottom) in heights.items()}
    assert shares == pytest.approx({"m5": 0.1, "m2": 0.2, "m0": 0.7}, abs=0.01)
    assert heights["m5"][0] > heights["m0"][1] - 1, "SVG counts from above"
    unnamed = next(chart for chart in rl_charts(steps) if chart.title == "Matched levels")
    assert [key.name for key in unnamed.keys] == ["2 matched", "1 matched", "0 matched"]


def test_the_mixture_shows_how_insertions_grow_within_an_epoch() -> None:
    found = mixture(planned_steps())
    pairs = [(p, r) for p, r in zip(found.planned, found.real, strict=True) if not math.isnan(p + r)]
    assert sum(abs(p - r) for p, r in pairs) / len(pairs) < 0.1
    first_epoch = found.real[1:400]
    assert np.nanmean(first_epoch[250:]) > np.nanmean(first_epoch[:150]) + 0.2


def test_shares_are_shown_in_per_cent_and_bear_no_mark() -> None:
    reason = {"pass@1": 0.1, "well_formed": 0.9, "faithful": 0.25}
    table = results_table(
        {"sft": {"reason": reason}, "srpo": {"reason": {**reason, "well_formed": 1.0, "pass@1": 0.2}}}
    )
    assert table is not None
    rows = {row.name: [(cell.text, cell.tone) for cell in row.cells] for row in table.rows if row.name}
    assert rows == {
        "Pass@1": [("0.1000", "ours second"), ("0.2000", "ours best")],
        "Well-formed": [("90.0%", "ours"), ("100.0%", "ours")],
        "Faithful": [("25.0%", "ours"), ("25.0%", "ours")],
    }
