"""The results table in the layout of the paper's Table 2, for the page and for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

DIRECT = ("recall@1", "recall@5", "recall@10", "ndcg@5", "ndcg@10")
REASON = ("pass@1", "pass@5", "pass@10", "well_formed")
NAMES = {"recall": "Recall", "ndcg": "NDCG", "pass": "Pass", "well_formed": "Well-formed"}
FAMILIES = {
    "Traditional": ("GRU4Rec", "Caser", "HGN"),
    "Transformer-based": ("BERT4Rec", "SASRec", "S3Rec", "FDSA"),
    "Generative": ("TIGER",),
    "LLM-based": ("LC-Rec",),
}
"""The columns of the paper's Table 2; what stands in none of them is a simple baseline, or one of the user's."""
MODELS = (("sft", "SFT (Align)"), ("srpo", "SRPO (RL)"))


@dataclass(frozen=True)
class Cell:
    text: str
    tone: str = ""


@dataclass(frozen=True)
class Row:
    name: str = ""
    cells: Sequence[Cell] = ()
    section: str = ""


@dataclass(frozen=True)
class Column:
    name: str
    ours: bool


@dataclass(frozen=True)
class Group:
    name: str
    span: int


@dataclass(frozen=True)
class Table:
    groups: list[Group]
    columns: list[Column]
    rows: list[Row]
    note: str = (
        "Full catalogue, every test user. The best figure of a row is bold, the second underlined. Pass@k is the "
        "unbiased estimator."
    )


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
    baselines = list({**(report.get("baselines") or {}), **(seen.get("baselines") or {})})
    models = [(key, name) for key, name in MODELS if report.get(key)]
    columns = [*(Column(baseline_name(name), False) for name in baselines), *(Column(name, True) for _, name in models)]
    if not columns:
        return None
    rows: list[Row] = []
    for title, metrics, source, mode in (
        ("Direct mode", DIRECT, report, "direct"),
        ("Reasoning mode", REASON, report, "reason"),
        ("Direct mode, already seen items excluded", DIRECT, seen, "direct"),
    ):
        theirs = [_of(source, "baselines", name) for name in baselines]
        figures = [*theirs, *(_of(source, key, mode) for key, _ in models)]
        block = [row for metric in metrics if (row := _row(metric, figures, len(baselines)))]
        rows.extend([Row(section=title), *block] if block else [])
    groups = baseline_groups(baselines)
    return Table([*groups, *([Group("GREAM", len(models))] if models else [])], columns, rows)


def baseline_name(name: str) -> str:
    return {"popular": "Most popular", "markov": "Markov", "S3Rec": "S³-Rec"}.get(name, name)


def baseline_groups(names: Sequence[str]) -> list[Group]:
    """The heads above the baselines' columns.

    >>> [(group.name, group.span) for group in baseline_groups(["popular", "GRU4Rec", "HGN", "SASRec"])]
    [('Baselines', 1), ('Traditional', 2), ('Transformer-based', 1)]
    """
    families = {name: family for family, members in FAMILIES.items() for name in members}
    return [Group(head, len(list(some))) for head, some in groupby(names, lambda name: families.get(name, "Baselines"))]


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
    compared = sum(value is not None for value in values) > 1 and len(known) > 1
    cells = []
    for place, value in enumerate(values):
        tones = ["ours"] if place >= baselines else []
        if value is None:
            cells.append(Cell("–", " ".join([*tones, "none"])))
            continue
        if compared and metric != "well_formed" and round(value, 4) in known[:2]:
            tones.append("best" if round(value, 4) == known[0] else "second")
        cells.append(Cell(f"{value:.1%}" if metric == "well_formed" else f"{value:.4f}", " ".join(tones)))
    return Row(metric_name(metric), cells)


def markdown_table(table: Table) -> str:
    """The same in Markdown: the best figure of a row bold, the second underlined, as in the paper."""
    heads = [group.name for group in table.groups for _ in range(group.span)]
    lines = ["| Metric | " + " | ".join(column.name for column in table.columns) + " |"]
    lines.append("|---|" + "---|" * len(table.columns))
    lines.append("| | " + " | ".join(f"*{head}*" for head in heads) + " |")
    marks = {"best": "**{}**", "second": "<u>{}</u>"}
    for row in table.rows:
        cells = [
            next((mark.format(cell.text) for tone, mark in marks.items() if tone in cell.tone.split()), cell.text)
            for cell in row.cells
        ]
        lines.append(f"| **{row.section}** |" + " |" * len(table.columns) if row.section else _line(row.name, cells))
    return "\n".join([*lines, "", table.note, ""])


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def terminal_table(table: Table) -> str:
    """The same for a terminal: ``*`` marks the best figure of a row."""
    first = max([len("Metric"), *(len(row.name) for row in table.rows)])
    widths = [max(9, len(column.name) + 1) for column in table.columns]
    lines = [
        "Metric".ljust(first)
        + "".join(f"{column.name:>{width + 1}}" for column, width in zip(table.columns, widths, strict=True))
    ]
    for row in table.rows:
        if row.section:
            lines.extend(["", row.section])
            continue
        cells = (
            f"{cell.text + ('*' if 'best' in cell.tone else ' '):>{width + 1}}"
            for cell, width in zip(row.cells, widths, strict=True)
        )
        lines.append(row.name.ljust(first) + "".join(cells).rstrip())
    return "\n".join(lines)
