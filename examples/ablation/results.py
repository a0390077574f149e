"""The ablation's figures as tables and as a plot."""

from pathlib import Path
from typing import Any

METRICS = ("recall+ndcg", "pass", "reward", "kept_rate", "tokens_wasted")


def markdown(title: str, table: dict[str, Any]) -> str:
    head = f"| {title} | mean of Recall, NDCG@1, 5, 10 | mean Pass@1, 5, 10 | reward | groups kept | tokens wasted |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, row in table.items():
        cells = [_cell(row.get(metric)) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: dict[str, float | None] | None) -> str:
    if value is None:
        return "-"
    text = f"{value['mean']:.4f}".removeprefix("0")
    return text if value["error"] is None else f"{text} ± {value['error']:.4f}".replace("± 0.", "± .")


def plot(tables: dict[str, dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(tables), 2, figsize=(9, 2.6 * len(tables)), squeeze=False)
    labels = {"recall+ndcg": "mean of Recall and NDCG@1, 5, 10", "pass": "mean Pass@1, 5, 10"}
    for row, (title, table) in zip(axes, tables.items(), strict=True):
        for axis, (metric, label) in zip(row, labels.items(), strict=True):
            means = [found[metric]["mean"] for found in table.values()]
            errors = [found[metric]["error"] or 0.0 for found in table.values()]
            axis.barh(list(table), means, xerr=errors, color="#4477aa", capsize=3)
            axis.invert_yaxis()
            axis.set_title(f"{title}: {label}", fontsize=8)
            axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
