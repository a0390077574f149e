"""Command ``compare``: two models over the same users, in any figure, with the interval of the difference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class CompareSettings:
    """Which two evaluations of a workspace, and in what."""

    first: str = option(help="a model or baseline that has been evaluated, such as markov, SASRec or sft")
    second: str = option(help="the other; differences are second minus first")
    mode: Literal["direct", "reason"] = option("direct", help="of both")
    split: Literal["test", "valid"] = option("test", help="whose interactions were asked for")
    exclude_seen: bool = option(False, help="the evaluations that never recommend what stands in the user's history")
    figures: tuple[str, ...] = option((), help="such as recall@10, ndcg@5, pass@1, first@10, reward; none: the usual")
    other: str | None = option(None, help="workspace of the second, where it is another one")


def run(workspace: Workspace, settings: CompareSettings) -> None:
    from gream_ext.evaluation.protocol import check_figure, compare, read_evaluation, values

    there = Workspace(settings.other) if settings.other else workspace
    first, second = (
        evaluation(place, model, settings) for place, model in ((workspace, settings.first), (there, settings.second))
    )
    rows = read_evaluation(first), read_evaluation(second)
    # The usual figures were within bounds when they were measured: a small catalogue may have shorter lists.
    for one, model in zip(rows, (settings.first, settings.second), strict=True):
        for figure in settings.figures:
            try:
                check_figure(one, figure)
            except GreamError as error:
                raise GreamError(f"{model!r}: {error}") from None
    figures = settings.figures or usual_figures(first, second, settings.mode)
    compared = [(figure, compare(first, second, figure)) for figure in figures]
    names = max(len(figure) for figure in figures)
    print(f"{'':<{names}}  {settings.first:>10} {settings.second:>10} {'difference':>11}  95 % interval")
    for figure, found in compared:
        means = [float(values(one, figure).mean()) for one in rows]
        sure = "" if found.low <= 0 <= found.high else " *"
        interval = f"[{found.low:+.4f}, {found.high:+.4f}]"
        print(f"{figure:<{names}}  {means[0]:10.4f} {means[1]:10.4f} {found.difference:+11.4f}  {interval}{sure}")
    print(f"{found.users} users, paired; * the interval leaves zero out")


def evaluation(workspace: Workspace, model: str, settings: CompareSettings) -> Path:
    """The stem of a model's evaluation; `GreamError` says which models there are."""
    from gream_ext.evaluation.protocol import files, stem

    path = stem(workspace, model, settings.mode, settings.split, settings.exclude_seen)
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
    from gream_ext.evaluation.protocol import figure_of, files
    from gream_ext.workspace import read_json

    about = files(path)[1]
    intervals = read_json(about, "evaluate").get("intervals", {})
    if not isinstance(intervals, dict):
        raise GreamError(f"{about} is damaged (its intervals are no JSON object): run `gream evaluate` again")
    found = {}
    for column in intervals:
        figure = figure_of(column)
        if figure is None:
            raise GreamError(f"{about} is damaged ({column!r} is no figure): run `gream evaluate` again")
        found[column] = figure
    return found


STAGE = Stage(name="compare", settings=CompareSettings, run=run)
"""A command: it writes nothing."""
