"""Charts of the report that have no y axis: intervals beside zero, and a strip of steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from gream_ext.extras.report.svg import BOTTOM, LEFT, RIGHT, WIDTH, nice_ticks, svg


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its confidence interval."""

    name: str
    mean: float
    low: float
    high: float
    tone: str = "ours"


def interval_chart(intervals: Sequence[Interval], label: str) -> str:
    """Differences with their intervals, one row each, and a line at zero."""
    left, row, top = 190, 30, 12
    height = top + row * len(intervals) + BOTTOM
    ends = [0.0, *(end for one in intervals for end in (one.low, one.high))]
    ticks = nice_ticks(min(ends), max(ends), 6)

    def x(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (WIDTH - left - RIGHT - 10)

    bottom = height - BOTTOM
    parts = []
    for tick in ticks:
        kind = "zero" if tick == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:+.3g}</text>'
            if tick
            else f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">0</text>'
        )
    for place, one in enumerate(intervals):
        y = top + row * (place + 0.5)
        about = f"{one.name}: {one.mean:+.4f}, 95 % interval {one.low:+.4f} to {one.high:+.4f}"
        parts.append(
            f'<g class="interval {one.tone}"><title>{escape(about)}</title>'
            f'<text class="name" x="{left - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(one.name)}</text>'
            f'<line x1="{x(one.low):.1f}" x2="{x(one.high):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<circle cx="{x(one.mean):.1f}" cy="{y:.1f}" r="5"/></g>'
        )
    parts.append(
        f'<text class="label" x="{(left + WIDTH) / 2}" y="{height - 5}" text-anchor="middle">{escape(label)}</text>'
    )
    return svg("".join(parts), height, label)


def strip(shares: Sequence[float], low_tone: str, high_tone: str, name: str) -> str:
    """A barcode: one thin bar a step or bin, from the low tone (0) to the high one (1), aligned with a line chart."""
    height, top = 22, 2
    width = (WIDTH - LEFT - RIGHT) / max(1, len(shares))
    bars = "".join(
        f'<rect class="band {high_tone}" opacity="{share:.2f}" x="{LEFT + width * place:.2f}" y="{top}" '
        f'width="{width + 0.1:.2f}" height="{height - 2 * top}"/>'
        for place, share in enumerate(shares)
        if share > 0.004
    )
    size = f'width="{WIDTH - LEFT - RIGHT}" height="{height - 2 * top}"'
    ground = f'<rect class="band {low_tone}" x="{LEFT}" y="{top}" {size}/>'
    return svg(ground + bars, height, name)
