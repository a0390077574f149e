"""The pieces of the report: charts, curves, the results table, a reasoning for human eyes."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.curriculum import KINDS, PHASES, CurriculumSettings, plan_epoch
from gream_ext.extras.report.charts import comparison_charts, level_tone, rl_charts, sft_charts
from gream_ext.extras.report.curves import RlStep, SftStep, mixture, rl_steps, sft_steps, smooth
from gream_ext.extras.report.reasoning import Span, parts, plain, spans
from gream_ext.extras.report.rows import Interval, interval_chart, strip
from gream_ext.extras.report.svg import MOST_POINTS, Series, line_chart, nice_ticks, thinned
from gream_ext.extras.report.table import results_table, terminal_table
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


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 10))
def test_ticks_hold_the_data_and_are_evenly_spaced(low: float, width: float, count: int) -> None:
    ticks = nice_ticks(low, low + width, count)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step + 1e-9
    assert ticks[-1] >= low + width - 1e-6 * step - 1e-9
    assert len(ticks) <= count + 2 or width < 1e-4


def test_a_constant_has_ticks_too() -> None:
    assert nice_ticks(3.0, 3.0)[0] < 3.0 < nice_ticks(3.0, 3.0)[-1]


def test_charts_are_well_formed_and_hold_no_foreign_markup() -> None:
    nasty = '<script>alert("x")</script>'
    line = Series(nasty, [1.0, 2.0, 3.0], [0.5, None, 0.7], "align")
    for picture in (
        line_chart([line], nasty, nasty),
        line_chart([], "step", "loss"),
        interval_chart([Interval(nasty, 0.1, -0.1, 0.3)], nasty),
        strip([0.0, 0.5, 1.0], "align", "reason", nasty),
    ):
        ElementTree.fromstring(picture)
        assert "<script>" not in picture


def test_a_missing_value_breaks_the_line() -> None:
    picture = line_chart([Series("x", [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, None, 3.0], "align")], "step", "loss")
    path = next(element for element in ElementTree.fromstring(picture).iter() if element.tag.endswith("path"))
    assert path.get("d", "").count("M") == 2


def test_long_series_are_thinned() -> None:
    xs, ys = thinned([float(x) for x in range(5000)], [1.0] * 5000)
    assert len(xs) == len(ys) <= MOST_POINTS
    assert set(ys) == {1.0}


@given(st.lists(st.none() | st.floats(-10, 10), max_size=40), st.integers(1, 9))
def test_smoothing_is_the_mean_of_what_is_near(values: list[float | None], span: int) -> None:
    smoothed = smooth(values, span)
    for place, value in enumerate(smoothed):
        start = max(0, place - span // 2)
        near = [one for one in values[start : place - span // 2 + span] if one is not None]
        assert (value is None) == (not near)
        if near:
            assert value == pytest.approx(sum(near) / len(near), abs=1e-9)


def planned_steps(align: int = 400, reason: int = 150, epochs: int = 3) -> list[SftStep]:
    settings = CurriculumSettings(epochs=epochs, batch_rows=1)
    steps: list[SftStep] = []
    for epoch in range(1, epochs + 1):
        plan = plan_epoch(align, reason, epoch, settings)
        for kind, planned, phase in zip(plan.kind, plan.planned, plan.phase, strict=True):
            known = None if planned != planned else float(planned)
            name = KINDS[kind]
            steps.append(SftStep(len(steps) + 1, epoch, name, PHASES[phase], known, 1.0, float(name == "reason")))
    return steps


def test_the_real_mixture_follows_the_plan() -> None:
    steps = planned_steps()
    found = mixture(steps, span=101)
    pairs = [(p, r) for p, r in zip(found.planned, found.real, strict=True) if p is not None and r is not None]
    assert sum(abs(p - r) for p, r in pairs) / len(pairs) < 0.06
    assert len(found.steps) == len(found.planned) == len(found.real)
    leftovers = [step.step for step in steps if step.phase == "leftover"]
    assert leftovers
    for step, planned, real in zip(found.steps, found.planned, found.real, strict=True):
        if step in leftovers:
            assert planned is None
            assert real is None


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
        {"step": 2, "data": {"critic/score/mean": 0.3, "gream/levels/0": 0.75, "gream/levels/2": 0.25}},
        {"step": 1, "data": {"critic/score/mean": float("nan"), "response_length/mean": 90}},
        {"step": 2, "data": {"val-core/gream/reward/mean@1": 0.4}},
    ]
    (tmp_path / "rl" / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{torn")
    first, second = rl_steps(workspace)
    assert (first.step, first.reward, first.response_length) == (1, None, 90.0)
    assert (second.reward, second.matched_levels, second.validation_reward) == (0.3, (0.75, 0.0, 0.25), 0.4)


def test_charts_of_training_and_rl() -> None:
    titles = [chart.title for chart in sft_charts(planned_steps())]
    assert titles == ["Training loss", "Curriculum: planned and real"]
    steps = [RlStep(n, 0.2 + n / 100, (0.5, 0.3, 0.2), 100.0, 0.0, 0.6, None, None) for n in range(1, 9)]
    charts = rl_charts(steps, 2)
    assert [chart.title for chart in charts] == [
        "Mean reward", "Matched levels", "Response length", "Of use",
    ]  # fmt: skip
    assert [key.name for key in charts[1].keys] == ["exact", "1 matched", "0 matched"]
    assert sft_charts([]) == rl_charts([]) == []
    assert [level_tone(level, 6) for level in range(6)] == ["m0", "m1", "m2", "m3", "m4", "m5"]
    assert level_tone(2, 3) == "m5"
    for chart in (*charts, *sft_charts(planned_steps(20, 5, 1))):
        for picture in chart.pictures:
            ElementTree.fromstring(str(picture))


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
    assert "recommended product is “Brokai”" in plain(RESPONSE, title_of)


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
