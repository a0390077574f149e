"""Charts as inline SVG, in plain text: lines over an axis, and shares stacked on one another.

Colours and fonts are classes of ``templates/report.css``; a chart is a string that can stand in any page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH, HEIGHT = 560, 280
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 38, 40
MOST_POINTS = 600
"""A longer series is thinned by averaging neighbours, which the eye would do anyway."""


@dataclass(frozen=True)
class Series:
    """One line of a chart; a None breaks it. ``tone`` is a class of the style sheet."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    tone: str
    style: Literal["line", "dashed", "points"] = "line"


@dataclass(frozen=True)
class Region:
    """A stretch of the x axis with a name, e.g. an epoch."""

    name: str
    start: float
    end: float
    shaded: bool = False


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``, about ``count`` of them.

    >>> nice_ticks(0.03, 0.97)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * place, 10) for place in range(first, last + 1)]


def number_text(value: float) -> str:
    """A tick's label without needless digits.

    >>> [number_text(value) for value in (0.0, 0.25, 1500.0, 12000.0)]
    ['0', '0.25', '1,500', '12,000']
    """
    return f"{value:,.0f}" if value == int(value) else f"{value:.6f}".rstrip("0")


def thinned(xs: Sequence[float], ys: Sequence[float | None]) -> tuple[list[float], list[float | None]]:
    """At most `MOST_POINTS` points, each the mean of neighbours."""
    size = -(-len(xs) // MOST_POINTS)
    if size <= 1:
        return list(xs), list(ys)
    new_xs: list[float] = []
    new_ys: list[float | None] = []
    for start in range(0, len(xs), size):
        known = [y for y in ys[start : start + size] if y is not None]
        new_xs.append(sum(xs[start : start + size]) / len(xs[start : start + size]))
        new_ys.append(sum(known) / len(known) if known else None)
    return new_xs, new_ys


@dataclass(frozen=True)
class _Frame:
    """Maps data to the picture; made by `_frame`."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_low: float
    x_high: float
    height: int

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / ((self.x_high - self.x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return self.height - BOTTOM - (value - low) / ((high - low) or 1) * (self.height - TOP - BOTTOM)


def _frame(xs: Sequence[float], ys: Sequence[float], y_low: float | None, y_high: float | None, height: int) -> _Frame:
    x_low, x_high = min(xs, default=0.0), max(xs, default=1.0)
    low = min(ys, default=0.0) if y_low is None else y_low
    high = max(ys, default=1.0) if y_high is None else max(y_high, max(ys, default=y_high))
    ticks = nice_ticks(x_low, x_high, 8)
    inside = [tick for tick in ticks if x_low <= tick <= x_high and (x_high - x_low < 8 or tick == int(tick))]
    return _Frame(inside, nice_ticks(low, high), x_low, x_high, height)


def _axes(frame: _Frame, x_label: str, y_label: str, percent: bool) -> str:
    bottom = frame.height - BOTTOM
    parts = []
    for tick in frame.y_ticks:
        place = frame.y(tick)
        text = f"{100 * tick:g} %" if percent else number_text(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{text}</text>')
    for tick in frame.x_ticks:
        place = frame.x(tick)
        parts.append(
            f'<text class="tick" x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{number_text(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    parts.append(
        f'<text class="label" x="{middle}" y="{frame.height - 5}" text-anchor="middle">{escape(x_label)}</text>'
    )
    parts.append(f'<text class="label" x="{LEFT - 46}" y="13">{escape(y_label)}</text>')
    return "".join(parts)


def _regions(frame: _Frame, regions: Sequence[Region]) -> str:
    parts = []
    for region in regions:
        start, end = frame.x(max(region.start, frame.x_low)), frame.x(min(region.end, frame.x_high))
        if region.shaded:
            box = f'x="{start:.1f}" y="{TOP}" width="{max(end - start, 1):.1f}" height="{frame.height - TOP - BOTTOM}"'
            parts.append(f'<rect class="region" {box}/>')
        else:
            bottom = frame.height - BOTTOM
            parts.append(f'<line class="divide" x1="{start:.1f}" x2="{start:.1f}" y1="{TOP}" y2="{bottom}"/>')
        if region.name:
            middle = (start + end) / 2
            parts.append(
                f'<text class="region-name" x="{middle:.1f}" y="{TOP - 8}" text-anchor="middle">'
                f"{escape(region.name)}</text>"
            )
    return "".join(parts)


def _line(frame: _Frame, series: Series) -> str:
    xs, ys = (series.xs, series.ys) if series.style == "points" else thinned(series.xs, series.ys)
    if series.style == "points":
        keep = max(1, len(xs) // (2 * MOST_POINTS))
        dots = "".join(
            f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="1.8"/>'
            for x, y in list(zip(xs, ys, strict=True))[::keep]
            if y is not None
        )
        return f'<g class="points {series.tone}">{dots}</g>'
    path, pen = [], "M"
    for x, y in zip(xs, ys, strict=True):
        if y is None:
            pen = "M"
            continue
        path.append(f"{pen}{frame.x(x):.1f} {frame.y(y):.1f}")
        pen = "L"
    return f'<path class="{series.style} {series.tone}" d="{" ".join(path)}"/>'


def svg(content: str, height: int, name: str) -> str:
    """One picture of the page's width; ``name`` is for those who cannot see it."""
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(name, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{content}</svg>'
    )


def line_chart(
    series: Sequence[Series],
    x_label: str,
    y_label: str,
    regions: Sequence[Region] = (),
    y_low: float | None = None,
    y_high: float | None = None,
    percent: bool = False,
    height: int = HEIGHT,
) -> str:
    """Lines, dashed lines and points over one x axis, with named regions behind them."""
    xs = [x for one in series for x in one.xs]
    ys = [y for one in series for y in one.ys if y is not None]
    frame = _frame(xs, ys, y_low, y_high, height)
    content = _regions(frame, regions) + _axes(frame, x_label, y_label, percent)
    return svg(content + "".join(_line(frame, one) for one in series), height, f"{y_label} over {x_label}")


def stacked_chart(
    xs: Sequence[float], layers: Sequence[tuple[str, list[float], str]], x_label: str, y_label: str
) -> str:
    """Shares that add up to one at every x, one band on the other: (name, values, tone), the lowest first."""
    frame = _frame(xs, [0.0, 1.0], 0.0, 1.0, HEIGHT)
    below = [0.0] * len(xs)
    bands = []
    for name, values, tone in layers:
        above = [floor + value for floor, value in zip(below, values, strict=True)]
        upper = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(xs, above, strict=True)]
        lower = [f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(xs, below, strict=True)]
        points = "L".join([*upper, *reversed(lower)])
        bands.append(f'<path class="band {tone}" d="M{points}Z"><title>{escape(name)}</title></path>')
        below = above
    return svg("".join(bands) + _axes(frame, x_label, y_label, True), HEIGHT, f"{y_label} over {x_label}")
