"""The results table in the layout of the paper's Table 2: for the page, for results.md and for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

DIRECT = ("recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10")
REASON = ("pass@1", "pass@5", "pass@10", "well_formed", "faithful")
SHARES = ("well_formed", "faithful")
"""Shown in per cent, and not compared."""
NAMES = {"recall": "Recall", "ndcg": "NDCG", "pass": "Pass", "well_formed": "Well-formed", "faithful": "Faithful"}
BASELINE_NAMES = {"popular": "Most popular", "markov": "Markov", "co-occurrence": "Co-occurrence", "S3Rec": "S³-Rec"}
FAMILIES = {
    "GRU4Rec": "Traditional", "Caser": "Traditional", "HGN": "Traditional", "BERT4Rec": "Transformer-based",
    "SASRec": "Transformer-based", "S3Rec": "Transformer-based", "FDSA": "Transformer-based", "TIGER": "Generative",
    "LC-Rec": "LLM-based",
}  # fmt: skip
"""The columns of the paper's Table 2; what stands in none of them is a simple baseline, or one of the user's."""
OURS = "GREAM"
MODELS = (("sft", "SFT (Align)"), ("srpo", "SRPO (RL)"))


class Cell(NamedTuple):
    text: str
    tone: str = ""


class Row(NamedTuple):
    """A row of figures, or the head of a section."""

    name: str = ""
    cells: Sequence[Cell] = ()
    section: str = ""


class Column(NamedTuple):
    name: str
    group: str

    @property
    def ours(self) -> bool:
        return self.group == OURS


@dataclass(frozen=True)
class Table:
    columns: list[Column]
    rows: list[Row]
    note: str = (
        "Full catalogue, every test user. The best figure of a row is bold, the second underlined. Pass@k is the "
        "unbiased estimator."
    )

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The heads above the columns, each with the number of its columns."""
        return [(name, len(list(some))) for name, some in groupby(self.columns, lambda column: column.group)]


def metric_name(metric: str) -> str:
    """
    >>> metric_name("recall@10")
    'Recall@10'
    """
    name, at, cutoff = metric.partition("@")
    return NAMES.get(name, name) + at + cutoff


def results_table(report: Mapping[str, Any]) -> Table | None:
    """The table of a report.json; None when nothing has been evaluated yet."""
    seen: Mapping[str, Any] = report.get("excluding_seen") or {}
    names = list({**(report.get("baselines") or {}), **(seen.get("baselines") or {})})
    models = [(key, name) for key, name in MODELS if report.get(key) or seen.get(key)]
    columns = [Column(BASELINE_NAMES.get(name, name), FAMILIES.get(name, "Baselines")) for name in names]
    columns += [Column(name, OURS) for _, name in models]
    if not columns:
        return None
    rows: list[Row] = []
    for title, metrics, source, mode in (
        ("Direct mode", DIRECT, report, "direct"),
        ("Reasoning mode", REASON, report, "reason"),
        ("Direct mode, already seen items excluded", DIRECT, seen, "direct"),
        ("Reasoning mode, already seen items excluded", REASON, seen, "reason"),
    ):
        figures = [*(_of(source, "baselines", name) if mode == "direct" else {} for name in names)]
        figures += [_of(source, key, mode) for key, _ in models]
        block = [row for metric in metrics if (row := _row(metric, figures, len(names)))]
        impossible = max((one.get("impossible_targets") or 0.0 for one in figures), default=0.0)
        if impossible and block:
            title += f"; {impossible:.1%} of the targets were seen before and cannot be found"
        rows.extend([Row(section=title), *block] if block else [])
    return Table(columns, rows)


def _of(source: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    found: Any = source
    for key in keys:
        found = (found or {}).get(key)
    return found if isinstance(found, Mapping) else {}


def _row(metric: str, figures: Sequence[Mapping[str, Any]], baselines: int) -> Row | None:
    values = [one.get(metric) for one in figures]
    known = sorted({round(value, 4) for value in values if value is not None}, reverse=True)
    if not known:
        return None
    marks = dict(zip(known, ("best", "second"), strict=False)) if len(known) > 1 and metric not in SHARES else {}
    cells = []
    for column, value in enumerate(values):
        tone = "none" if value is None else marks.get(round(value, 4), "")
        text = "–" if value is None else f"{value:.1%}" if metric in SHARES else f"{value:.4f}"
        cells.append(Cell(text, f"{'ours ' if column >= baselines else ''}{tone}".strip()))
    return Row(metric_name(metric), cells)


def markdown_table(table: Table) -> str:
    """The same in Markdown: the best figure of a row bold, the second underlined, as in the paper."""
    heads = [f"*{column.group}*" for column in table.columns]
    lines = [_line(["Metric", *(column.name for column in table.columns)]), "|" + "---|" * (len(table.columns) + 1)]
    lines.append(_line(["", *heads]))
    marks = {"best": "**{}**", "second": "<u>{}</u>"}
    for row in table.rows:
        cells = [
            next((mark.format(cell.text) for tone, mark in marks.items() if tone in cell.tone.split()), cell.text)
            for cell in row.cells
        ]
        lines.append(_line([f"**{row.section}**", *[""] * len(heads)] if row.section else [row.name, *cells]))
    return "\n".join([*lines, "", table.note, ""])


def _line(words: Sequence[str]) -> str:
    return "|" + "|".join(f" {word} " if word else " " for word in words) + "|"


def terminal_table(table: Table) -> str:
    """The same for a terminal: ``*`` marks the best figure of a row."""
    first = max([len("Metric"), *(len(row.name) for row in table.rows)])
    widths = [max(10, len(column.name) + 2) for column in table.columns]
    lines = ["Metric".ljust(first) + "".join(f"{c.name:>{w}}" for c, w in zip(table.columns, widths, strict=True))]
    for row in table.rows:
        if row.section:
            lines.extend(["", row.section])
            continue
        cells = (cell.text + ("*" if "best" in cell.tone else " ") for cell in row.cells)
        figures = "".join(f"{text:>{width}}" for text, width in zip(cells, widths, strict=True))
        lines.append((row.name.ljust(first) + figures).rstrip())
    return "\n".join(lines)


def interval_text(one: Mapping[str, Any]) -> str:
    """A paired comparison in words."""
    interval = f"95 % interval {one['low']:+.4f} to {one['high']:+.4f}"
    return f"{one['name']}, {metric_name(one['metric'])}: {one['difference']:+.4f}, {interval}"


def terminal_text(report: Mapping[str, Any]) -> str:
    """The results of a report.json for a terminal: the table, the gain of RL, and the paired differences."""
    table, rl = results_table(report), report.get("rl") or {}
    lines = [terminal_table(table) if table else "nothing evaluated yet"]
    if rl.get("reward_after") is not None:
        lines.append(
            f"\nmean reward on {rl['prompts']:,} validation prompts: {rl['reward_before']:.4f} before RL, "
            f"{rl['reward_after']:.4f} after, paired standard error {rl['standard_error']:.4f}"
        )
    lines += [f"{interval_text(one)} ({one['users']:,} users)" for one in report.get("comparisons") or []]
    return "\n".join([*lines, *(report.get("notes") or [])])
