"""The charts of the report pages: from the curves of a run to pictures with a title, a caption and a legend."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from gream_ext.extras.report.curves import RlStep, SftStep, mixture, smooth
from gream_ext.extras.report.plot import TONES, label, picture
from gream_ext.extras.report.table import interval_text, metric_name

KINDS = {
    "align": ("align", "alignment steps"),
    "reason": ("reason", "reasoning steps"),
    "mixed": ("plain", "steps of mixed data"),
}
"""Of each kind of step its tone and its name."""
MOST_POINTS = 400
Numbers = Sequence[float] | np.ndarray


class Key(NamedTuple):
    """One entry of a legend; ``tone`` and ``style`` are classes of the style sheet."""

    name: str
    tone: str
    style: str = ""


class Chart(NamedTuple):
    title: str
    caption: str
    picture: Markup
    keys: Sequence[Key] = ()


class Line(NamedTuple):
    """One series of a chart; with a ``span`` it is shown as points and the moving average through them."""

    name: str
    tone: str
    xs: Numbers
    ys: Numbers
    span: int = 0
    style: str = ""


def thinned(xs: Numbers, ys: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST_POINTS` of a series, evenly spread."""
    chosen = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MOST_POINTS)).round().astype(int))
    return np.asarray(xs)[chosen], np.asarray(ys)[chosen]


def lines_chart(
    title: str, caption: str, axes_names: tuple[str, str], lines: Sequence[Line], epochs: Sequence[SftStep] = ()
) -> Chart:
    """Lines over one x axis; a "share" has a y axis of its own."""
    x_label, y_label = axes_names

    def draw(axes: Any) -> None:
        for line in lines:
            ys = smooth(line.ys, line.span) if line.span else line.ys
            if line.span:
                points = thinned(line.xs, line.ys)
                axes.plot(*points, ".", color=TONES[line.tone], alpha=0.35, markersize=4, markeredgewidth=0)
            axes.plot(*thinned(line.xs, ys), "--" if line.style else "-", color=TONES[line.tone])
        axes.set_ylim(bottom=0, top=1 if y_label == "share" else None)
        label(axes, x_label, y_label, percent=y_label == "share")
        mark_epochs(axes, epochs)

    keys = [Key(line.name, line.tone, line.style) for line in lines]
    drawn = picture(f"{y_label} over {x_label}", draw, 3.0 if epochs else 2.5)
    return Chart(title, caption, drawn, [] if keys == [Key(y_label, "plain")] else keys)


def sft_charts(steps: Sequence[SftStep]) -> list[Chart]:
    """Loss with alignment and reasoning told apart, and the mixture planned and real."""
    if not steps:
        return []
    lines = []
    for kind, (tone, name) in KINDS.items():
        own = [step for step in steps if step.kind == kind]
        xs, losses = [step.step for step in own], [step.loss for step in own]
        lines += [Line(name, tone, xs, losses, max(5, len(own) // 40))] if own else []
    caption = "One point an optimizer step or log line, told apart by the kind of data; the lines are moving averages."
    loss = lines_chart("Training loss", caption, ("optimizer step", "loss"), lines, steps)
    return [loss, curriculum_chart(steps)] if planned(steps) else [loss]


def planned(steps: Sequence[SftStep]) -> bool:
    """Whether the curriculum was at work."""
    return any(step.phase != "unplanned" for step in steps)


def curriculum_chart(steps: Sequence[SftStep]) -> Chart:
    """The insertion probability against the mixture that really happened, over a strip of the steps."""
    found = mixture(steps)
    stretches = [list(same) for _, same in groupby(steps, lambda step: (step.epoch, step.phase))]
    leftovers = [(one[0].step, one[-1].step) for one in stretches if one[0].phase == "leftover"]

    def draw(both: list[Any]) -> None:
        axes, strip = both
        for first, last in leftovers:
            axes.axvspan(first - 0.5, last + 0.5, color=TONES["leftover"], linewidth=0)
        axes.plot(found.steps, found.planned, "--", color=TONES["plain"], linewidth=1.4)
        axes.plot(found.steps, found.real, color=TONES["reason"])
        axes.set_ylim(bottom=0)
        label(axes, "", "chance of reasoning", percent=True)
        mark_epochs(axes, steps)
        first, last = steps[0].step, steps[-1].step
        bins = np.array_split([step.reason_share for step in steps], min(len(steps), 240))
        edges = np.linspace(first - 0.5, last + 0.5, len(bins) + 1)
        strip.axvspan(edges[0], edges[-1], color=TONES["align"], linewidth=0)
        for left, right, part in zip(edges, edges[1:], bins, strict=False):
            if part.mean() > 0.004:
                strip.axvspan(left, right, color=TONES["reason"], alpha=float(part.mean().round(2)), linewidth=0)
        strip.grid(False)
        label(strip, "optimizer step")
        strip.set_yticks([])

    keys = [
        Key("planned p_insert; share in the uniform epoch", "plain", "dashed"),
        Key("what happened, moving average", "reason"),
        Key("alignment", "align", "box"),
        Key("reasoning", "reason", "box"),
        *([Key("left-over reasoning", "leftover", "box")] if leftovers else []),
    ]
    caption = "Chance that a reasoning step follows an alignment step. The strip shows every step in order."
    drawn = picture("chance of reasoning over optimizer step", draw, 3.0, (9, 1))
    return Chart("Curriculum: planned and real", caption, drawn, keys)


def mark_epochs(axes: Any, steps: Sequence[SftStep]) -> None:
    """A divider where each epoch begins, with its name above; the name of the y axis makes way."""
    if steps:
        axes.set_title(axes.get_title("left"), loc="left", fontsize=9.5, pad=17)
    for epoch, same in groupby(steps, lambda step: step.epoch):
        own = list(same)
        uniform = any(step.phase == "uniform" for step in own)
        axes.axvline(own[0].step, color=TONES["soft"], linewidth=0.6, linestyle=":")
        name = f"epoch {epoch}{', uniform' if uniform else ''}"
        middle = (own[0].step + own[-1].step) / 2
        axes.text(middle, 1.0, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom", fontsize=8.5)


def rl_charts(steps: Sequence[RlStep], length: int | None = None) -> list[Chart]:
    """Reward and matched-level distribution over the steps; response length and kept groups where logged.

    ``length`` is that of an identifier: only then a rollout that matches all levels is called exact.
    """

    def lines(least: int, *wanted: tuple[str, str, str, str]) -> list[Line]:
        """Of (name, figure, tone, style) those that were logged at ``least`` so often."""
        found = []
        for name, figure, tone, style in wanted:
            known = [(step.step, getattr(step, figure)) for step in steps if not math.isnan(getattr(step, figure))]
            if len(known) >= least:
                xs, ys = zip(*known, strict=True)
                found.append(Line(name, tone, xs, ys, max(3, len(xs) // 10) if figure == "reward" else 0, style))
        return found

    of_rollouts = "rollouts of the step, and moving average", "reward", "ours", ""
    validation = "Verl's own validation", "validation_reward", "plain", "dashed"
    length_line = "tokens", "response_length", "plain", ""
    useful = ("well-formed responses", "well_formed", "ours", ""), ("kept groups", "kept_groups", "plain", "")
    charts = []
    if reward := lines(1, of_rollouts):
        caption = "Residual reward (eq. 14) of all rollouts of a step, before the group filter decides."
        charts.append(lines_chart("Mean reward", caption, ("RL step", "reward"), [*reward, *lines(1, validation)]))
    levelled = [step for step in steps if step.matched_levels]
    if len(levelled) > 1:
        charts.append(levels_chart(levelled, length))
    if tokens := lines(2, length_line):
        charts.append(lines_chart("Response length", "Mean tokens of a response.", ("RL step", "tokens"), tokens))
    if shares := lines(2, *useful):
        caption = "Responses with one answer in its place, and groups kept by the filter because their rewards differ."
        charts.append(lines_chart("Of use", caption, ("RL step", "share"), shares))
    return charts


def levels_chart(steps: Sequence[RlStep], length: int | None) -> Chart:
    """The shares of rollouts by matched levels, stacked, the exact ones lowest."""
    count = max((length or 0) + 1, *(len(step.matched_levels) for step in steps))
    shares = np.array([[*step.matched_levels, *[0.0] * (count - len(step.matched_levels))] for step in steps])
    order = list(reversed(range(count)))
    layers = [smooth(shares[:, level], max(1, len(steps) // 30)) for level in order]
    tones = [level_tone(level, count) for level in order]

    def draw(axes: Any) -> None:
        axes.stackplot([step.step for step in steps], layers, colors=[TONES[tone] for tone in tones], linewidth=0)
        axes.set_ylim(0, 1)
        label(axes, "RL step", "share of rollouts", percent=True)

    names = ["exact" if level == length else f"{level} matched" for level in order]
    caption = "Share of rollouts by the levels that match the target from the left; all of them is an exact hit."
    keys = [Key(name, tone, "box") for name, tone in zip(names, tones, strict=True)]
    return Chart("Matched levels", caption, picture("share of rollouts over RL step", draw), keys)


def level_tone(level: int, count: int) -> str:
    """A tone from pale (nothing matches) to dark (exact), whatever the length of an identifier."""
    return f"m{round(level * 5 / max(1, count - 1))}"


def comparison_charts(comparisons: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One chart of paired differences for each mode."""
    by_mode = [("Direct mode", "direct"), ("Reasoning mode", "reason")]
    rows = [(title, [one for one in comparisons if one["mode"] == mode]) for title, mode in by_mode]
    return [differences_chart(title, own) for title, own in rows if own]


def differences_chart(title: str, rows: Sequence[Mapping[str, Any]]) -> Chart:
    """Intervals in rows: green above zero, red below, grey where zero is within."""
    metrics = list(dict.fromkeys(metric_name(one["metric"]) for one in rows))
    names = [one["name"] if len(metrics) == 1 else f"{one['name']}, {metric_name(one['metric'])}" for one in rows]
    differences = f"differences in {' and '.join(metrics)}"

    def draw(axes: Any) -> None:
        for row, one in enumerate(rows):
            colour = TONES[verdict(one["low"], one["high"])]
            axes.plot([one["low"], one["high"]], [row, row], color=colour, linewidth=2.4)
            axes.plot(one["difference"], row, "o", color=colour, markersize=6, markeredgecolor=TONES["card"])
        label(axes, differences, whole="")
        axes.axvline(0, color=TONES["soft"], linewidth=1, linestyle="--", zorder=1)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(False, axis="y")
        axes.grid(True, axis="x")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.3g}" if abs(value) > 1e-12 else "0")

    caption = f"Over the same {rows[0]['users']:,} users, paired, with 95 % intervals."
    keys = [Key("above zero", "ours", "box"), Key("below zero", "bad", "box"), Key("zero is within", "plain", "box")]
    drawn = picture("; ".join(map(interval_text, rows)), draw, 0.75 + 0.28 * len(rows))
    return Chart(f"{title}: {differences}", caption, drawn, keys)


def verdict(low: float, high: float) -> str:
    """The tone of an interval: ours above zero, bad below, plain where zero is in it."""
    return "ours" if low > 0 else "bad" if high < 0 else "plain"
