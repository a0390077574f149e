"""Two evaluations over the same users, in any figures, as a table with the intervals of the differences."""

from collections.abc import Sequence
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.evaluation.files import files, model_name, read_evaluation, stem
from gream_ext.evaluation.protocol import check_figure, compare, figure_of, values
from gream_ext.evaluation.stages import CompareSettings
from gream_ext.workspace import Workspace, read_json


def compare_models(workspace: Workspace, settings: CompareSettings) -> None:
    """Print the table; nothing is written."""
    there = Workspace(settings.other) if settings.other else workspace
    kind = settings.mode, settings.split, settings.exclude_seen
    first, second = evaluation(workspace, settings.first, *kind), evaluation(there, settings.second, *kind)
    print(comparison_table(first, second, (settings.first, settings.second), settings.figures, settings.mode))


def comparison_table(first: Path, second: Path, names: tuple[str, str], figures: Sequence[str], mode: str) -> str:
    """Means of both evaluations (by their stems), second minus first, and its interval, one figure a line.

    Without ``figures`` those that both have of the mode's usual ones. `GreamError` for what cannot be taken.
    """
    rows = read_evaluation(first), read_evaluation(second)
    # The usual figures were within bounds when they were measured: a small catalogue may have shorter lists.
    for one, model in zip(rows, names, strict=True):
        for figure in figures:
            try:
                check_figure(one, figure)
            except GreamError as error:
                raise GreamError(f"{model!r}: {error}") from None
    figures = figures or usual_figures(first, second, mode)
    width = max(len(figure) for figure in figures)
    lines = [f"{'':<{width}}  {names[0]:>10} {names[1]:>10} {'difference':>11}  95 % interval"]
    for figure in figures:
        found, means = compare(first, second, figure), [float(values(one, figure).mean()) for one in rows]
        sure = "" if found.low <= 0 <= found.high else " *"
        interval = f"[{found.low:+.4f}, {found.high:+.4f}]"
        lines.append(
            f"{figure:<{width}}  {means[0]:10.4f} {means[1]:10.4f} {found.difference:+11.4f}  {interval}{sure}"
        )
    return "\n".join([*lines, f"{len(rows[0])} users, paired; * the interval leaves zero out"])


def evaluation(workspace: Workspace, model: str, mode: str, split: str, exclude_seen: bool) -> Path:
    """The stem of a model's evaluation; `GreamError` says which models there are."""
    name = model_name(workspace, model) if "/" in model else model
    path = stem(workspace, name, mode, split, exclude_seen)
    if not files(path)[0].exists():
        there = sorted(one.parent.name for one in workspace.path("evaluation").glob(f"*/{path.name}.parquet"))
        raise GreamError(
            f"{workspace.path('evaluation')} has no {path.name} of {model!r}, but of {', '.join(there) or 'no model'}: "
            "name one of them, or run `gream evaluate` or `gream baselines`"
        )
    return path


def usual_figures(first: Path, second: Path, mode: str) -> tuple[str, ...]:
    """What both evaluations have of recall and NDCG, or of Pass@k and the reward."""
    names = ("recall", "ndcg") if mode == "direct" else ("pass", "first", "reward")
    measured, others = measured_figures(first), measured_figures(second)
    both = {column: figure for column, figure in measured.items() if column in others and figure[0] in names}
    if not both:
        raise GreamError(f"{first} and {second} have no figure in common: name some by --figures")
    return tuple(sorted(both, key=lambda column: (names.index(both[column][0]), both[column][1])))


def measured_figures(path: Path) -> dict[str, tuple[str, int]]:
    """The figures that stand in an evaluation's JSON, each with its name and cutoff."""
    about = files(path)[1]
    intervals = read_json(about, "evaluate").get("intervals", {})
    if not isinstance(intervals, dict):
        raise GreamError(f"{about} is damaged (its intervals are no JSON object): run `gream evaluate` again")
    found = {column: figure for column in intervals if (figure := figure_of(column))}
    if unknown := intervals.keys() - found.keys():
        raise GreamError(f"{about} is damaged ({min(unknown)!r} is no figure): run `gream evaluate` again")
    return found
