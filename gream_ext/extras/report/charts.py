"""The charts of the report page: from the curves of a run to pictures with a title, a caption and a legend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from markupsafe import Markup

from gream_ext.extras.report.curves import Mixture, RlStep, SftStep, mixture, smooth
from gream_ext.extras.report.rows import Interval, interval_chart, strip
from gream_ext.extras.report.svg import Region, Series, line_chart, stacked_chart
from gream_ext.extras.report.table import metric_name

KIND_TONES = {"align": "align", "reason": "reason", "mixed": "dark"}
KIND_NAMES = {"align": "alignment steps", "reason": "reasoning steps", "mixed": "steps of mixed data"}
STRIP_BINS = 240


@dataclass(frozen=True)
class Key:
    """One entry of a legend; ``style`` is a class of the style sheet beside ``tone``."""

    name: str
    tone: str
    style: str = ""


@dataclass(frozen=True)
class Chart:
    title: str
    caption: str
    pictures: list[Markup]
    keys: list[Key] = field(default_factory=list)


def chart(title: str, caption: str, pictures: Sequence[str], keys: Sequence[Key] = ()) -> Chart:
    # The pictures are our own and every text in them is escaped.
    return Chart(title, caption, [Markup(picture) for picture in pictures], list(keys))


def sft_charts(steps: Sequence[SftStep]) -> list[Chart]:
    """Loss with alignment and reasoning told apart, and the mixture planned and real."""
    if not steps:
        return []
    epochs = epoch_regions(steps)
    kinds = [kind for kind in KIND_TONES if any(step.kind == kind for step in steps)]
    lines, keys = [], []
    for kind in kinds:
        own = [step for step in steps if step.kind == kind and step.loss is not None]
        xs, losses = [float(step.step) for step in own], [step.loss for step in own]
        lines.append(Series(kind, xs, losses, KIND_TONES[kind], "points"))
        lines.append(Series(kind, xs, smooth(losses, max(5, len(own) // 40)), KIND_TONES[kind]))
        keys.append(Key(KIND_NAMES[kind], KIND_TONES[kind]))
    loss = chart(
        "Training loss",
        "One point an optimizer step or log line, told apart by the kind of data; the lines are moving averages.",
        [line_chart(lines, "optimizer step", "loss", epochs, y_low=0.0, height=302)],
        keys,
    )
    if all(step.phase == "unplanned" for step in steps):
        return [loss]
    return [loss, curriculum_chart(steps, mixture(steps), epochs)]


def curriculum_chart(steps: Sequence[SftStep], found: Mixture, epochs: Sequence[Region]) -> Chart:
    """The insertion probability against the mixture that really happened, over a barcode of the steps."""
    xs = [float(step) for step in found.steps]
    leftovers = [Region("", start, end, shaded=True) for start, end in stretches_of(steps, "leftover")]
    lines = [
        Series("planned", xs, found.planned, "dark", "dashed"),
        Series("real", xs, found.real, "reason"),
    ]
    bins = max(1, min(STRIP_BINS, len(steps)))
    cut = [steps[len(steps) * place // bins : len(steps) * (place + 1) // bins] for place in range(bins)]
    barcode = strip([fmean(step.reason_share for step in part) for part in cut], "align", "reason", "kind of each step")
    keys = [
        Key("planned p_insert; share in the uniform epoch", "dark", "dashed"),
        Key("what happened, moving average", "reason"),
        Key("alignment", "align", "box"),
        Key("reasoning", "reason", "box"),
    ]
    if leftovers:
        keys.append(Key("left-over reasoning", "leftover", "box"))
    return chart(
        "Curriculum: planned and real",
        "Chance that a reasoning step follows an alignment step. The strip shows every step in order.",
        [line_chart(lines, "optimizer step", "chance of reasoning", [*leftovers, *epochs], 0.0, percent=True), barcode],
        keys,
    )


def epoch_regions(steps: Sequence[SftStep]) -> list[Region]:
    regions = []
    for epoch in sorted({step.epoch for step in steps}):
        own = [step.step for step in steps if step.epoch == epoch]
        uniform = any(step.phase == "uniform" for step in steps if step.epoch == epoch)
        regions.append(Region(f"epoch {epoch}{', uniform' if uniform else ''}", min(own), max(own)))
    return regions


def stretches_of(steps: Sequence[SftStep], phase: str) -> list[tuple[int, int]]:
    """First and last step of each stretch of a phase."""
    found: list[tuple[int, int]] = []
    for step in steps:
        if step.phase == phase:
            if found and found[-1][1] == step.step - 1:
                found[-1] = (found[-1][0], step.step)
            else:
                found.append((step.step, step.step))
    return found


def rl_charts(steps: Sequence[RlStep], length: int | None = None) -> list[Chart]:
    """Reward and matched-level distribution over the steps; response length and kept groups where logged.

    ``length`` is that of an identifier: only then a rollout that matches all levels is called exact.
    """
    charts = []
    rewarded = [step for step in steps if step.reward is not None]
    if rewarded:
        xs, rewards = [float(step.step) for step in rewarded], [step.reward for step in rewarded]
        lines = [
            Series("reward", xs, rewards, "ours", "points"),
            Series("reward", xs, smooth(rewards, max(3, len(xs) // 10)), "ours"),
        ]
        keys = [Key("rollouts of the step, and moving average", "ours")]
        tested = [step for step in steps if step.validation_reward is not None]
        if tested:
            values = [step.validation_reward for step in tested]
            lines.append(Series("validation", [float(step.step) for step in tested], values, "dark", "dashed"))
            keys.append(Key("Verl's own validation", "dark", "dashed"))
        caption = "Residual reward (eq. 14) of all rollouts of a step, before the group filter decides."
        charts.append(chart("Mean reward", caption, [line_chart(lines, "RL step", "reward", y_low=0.0)], keys))
    levelled = [step for step in steps if step.matched_levels]
    if len(levelled) > 1:
        count = max((length or 0) + 1, *(len(step.matched_levels) for step in levelled))
        padded = [[*step.matched_levels, *[0.0] * (count - len(step.matched_levels))] for step in levelled]
        span = max(1, len(padded) // 30)
        layers: list[tuple[str, list[float], str]] = []
        for level in reversed(range(count)):
            shares = [value or 0.0 for value in smooth([row[level] for row in padded], span)]
            layers.append(("exact" if level == length else f"{level} matched", shares, level_tone(level, count)))
        caption = "Share of rollouts by the levels that match the target from the left; all of them is an exact hit."
        keys = [Key(name, tone, "box") for name, _, tone in layers]
        picture = stacked_chart([float(step.step) for step in levelled], layers, "RL step", "share of rollouts")
        charts.append(chart("Matched levels", caption, [picture], keys))
    charts.extend(_measure_charts(steps))
    return charts


def _measure_charts(steps: Sequence[RlStep]) -> list[Chart]:
    """What else Verl logged: how long responses are, and which of them are of use."""
    charts = []
    for title, caption, unit, lines in (
        ("Response length", "Mean tokens of a response.", "tokens", [("response_length", "tokens", "dark")]),
        (
            "Of use",
            "Responses with one answer in its place, and groups that the filter keeps because their rewards differ.",
            "share",
            [("well_formed", "well-formed responses", "ours"), ("kept_groups", "kept groups", "dark")],
        ),
    ):
        series = []
        for name, label, tone in lines:
            own = [step for step in steps if getattr(step, name) is not None]
            if len(own) > 1:
                xs = [float(step.step) for step in own]
                series.append(Series(label, xs, [getattr(step, name) for step in own], tone))
        if series:
            share = unit == "share"
            picture = line_chart(series, "RL step", unit, y_low=0.0, y_high=1.0 if share else None, percent=share)
            keys = [Key(one.name, one.tone) for one in series] if share else []
            charts.append(chart(title, caption, [picture], keys))
    return charts


def level_tone(level: int, count: int) -> str:
    """A tone from pale (nothing matches) to dark (exact), whatever the length of an identifier."""
    return f"m{round(level * 5 / max(1, count - 1))}"


def comparison_charts(comparisons: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """One chart of paired differences for each mode, in the order they come."""
    charts = []
    for mode, title in (("direct", "Direct mode"), ("reason", "Reasoning mode")):
        own = [one for one in comparisons if one["mode"] == mode]
        if not own:
            continue
        metrics = list(dict.fromkeys(metric_name(one["metric"]) for one in own))
        intervals = [
            Interval(
                one["name"] if len(metrics) == 1 else f"{one['name']}, {metric_name(one['metric'])}",
                one["difference"],
                one["low"],
                one["high"],
                "ours" if one["low"] > 0 else "dark",
            )
            for one in own
        ]
        caption = f"Over the same {own[0]['users']:,} users, paired, with 95 % intervals; green is above zero."
        picture = interval_chart(intervals, f"difference in {' and '.join(metrics)}")
        charts.append(chart(f"{title}: differences in {' and '.join(metrics)}", caption, [picture]))
    return charts
