"""Pictures by matplotlib as SVG that lies in the page: its text is text, its colours are those of report.css."""

import io
import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

TONES = {
    "soft": "#5c6675", "line": "#e3e7ed", "align": "#2f6fdf", "reason": "#e8710a", "ours": "#0f8a6d", "bad": "#b3382c",
    "plain": "#4a5462", "leftover": "#f0e4d2", "card": "#fefefe",
    "m0": "#d9dee6", "m1": "#bfe3da", "m2": "#8accbb", "m3": "#4fae97", "m4": "#1f8f76", "m5": "#07604e",
}  # fmt: skip
"""Colours of the style sheet by the names of its variables; here each stands for its variable."""

STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "gream", "text.parse_math": False, "font.size": 9.5,
    "text.color": TONES["soft"],
    "axes.labelcolor": TONES["soft"], "axes.edgecolor": TONES["line"], "xtick.color": TONES["soft"],
    "ytick.color": TONES["soft"], "xtick.major.size": 0, "ytick.major.size": 0, "axes.spines.top": False,
    "axes.spines.right": False, "axes.spines.left": False, "axes.grid": True, "axes.grid.axis": "y",
    "grid.color": TONES["line"], "axes.axisbelow": True, "axes.xmargin": 0.01, "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
}  # fmt: skip

CLEANED = (
    (r"^.*?<svg[^>]*>|<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->|xlink:(?=href)", ""),
    (r'<g id="[^"]*"', "<g"),
    (r"font-family: [^;\"]*; ?", ""),
    (r"\s*\n\s*", "\n"),
)
"""What matplotlib writes, and what is left of it: no prolog, no rules for the whole page, no fonts, no ids twice."""


def picture(name: str, draw: Callable[[Any], None], height: float = 2.5, rows: Sequence[float] = (1,)) -> Markup:
    """One SVG; ``draw`` gets the axes, or a list of them where there are several rows with one x axis.

    ``name`` is for those who cannot see it, ``height`` in inches at a width of 4.7.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.7, height), layout="constrained")
        axes = figure.subplots(len(rows), sharex=True, squeeze=False, gridspec_kw={"height_ratios": rows})[:, 0]
        draw(axes[0] if len(rows) == 1 else list(axes))
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    box = re.search(r'viewBox="[^"]+"', text)
    for found, instead in CLEANED:
        text = re.sub(found, instead, text, flags=re.S)
    for tone, colour in TONES.items():
        text = text.replace(colour, f"var(--{tone})")
    head = 'xmlns="http://www.w3.org/2000/svg"'
    # All text in it went through matplotlib, which escapes it.
    return Markup(f'<svg class="chart" {box and box[0]} role="img" {head}><title>{escape(name)}</title>{text}')


def label(axes: Any, x_label: str, y_label: str = "", percent: bool = False, whole: str = "x") -> None:
    """Names of both axes; those in ``whole`` ("x", "y", "xy") have whole numbers only."""
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=9.5)
    for letter, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        axis.set_major_locator(MaxNLocator(5, integer=letter in whole, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}" if letter in whole else "{x:,.10g}"))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
