"""What ``report`` does, and its page: one file without a single outside resource."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gream_ext import __version__
from gream_ext.extras.report.charts import comparison_charts, planned, rl_charts, sft_charts, verdict
from gream_ext.extras.report.curves import RlStep, SftStep, rl_steps, sft_steps
from gream_ext.extras.report.data import gather, other_workspaces
from gream_ext.extras.report.stages import ReportSettings
from gream_ext.extras.report.table import markdown_table, results_table, terminal_text
from gream_ext.extras.report.users import users as some_users
from gream_ext.workspace import Workspace, read_json, whole, write_json

MISSING = {
    "baselines": "No baselines yet: `gream baselines` measures most popular and Markov.",
    "sft": "The model after supervised training is not evaluated yet: `gream evaluate --model sft`.",
    "srpo": "No figures after reinforcement learning yet: `gream rl`, then `gream evaluate --model srpo`.",
}


def run(workspace: Workspace, settings: ReportSettings) -> None:
    report = gather(workspace, other_workspaces(workspace, settings.other_runs), settings.title)
    shown = some_users(workspace, settings.users, settings.seed)
    texts = {"report.html": page(report, sft_steps(workspace), rl_steps(workspace), shown, settings.banner or "")}
    if table := results_table(report):
        texts["evaluation/results.md"] = markdown_table(table)
    write_json(workspace.path("report.json"), report)
    for name, text in texts.items():
        with whole(workspace.path(name)) as draft:
            draft.write_text(text, encoding="utf-8")
    print(terminal_text(report))
    print(f"report: {workspace.path('report.html')}")


def show(workspace: Workspace, settings: ReportSettings) -> None:
    """The table of a report that was not written anew."""
    print(terminal_text(read_json(workspace.path("report.json"), "report")))


def page(
    report: Mapping[str, Any],
    sft: Sequence[SftStep] = (),
    rl: Sequence[RlStep] = (),
    users: Sequence[Mapping[str, Any]] = (),
    banner: str = "",
) -> str:
    """The page for a report.json, the curves of its run and a few users (see `gream_ext.extras.report.users`)."""
    index = report.get("index") or {}
    context = {
        "title": report.get("title") or "GREAM",
        "style": Markup(_template("report.css")),
        "banner": banner,
        "missing": [*(text for key, text in MISSING.items() if not report.get(key)), *(report.get("notes") or [])],
        "tiles": tiles(report),
        "table": results_table(report),
        "comparisons": comparison_charts(report.get("comparisons") or []),
        "sft_charts": sft_charts(sft),
        "sft_note": sft_note(sft),
        "rl_charts": rl_charts(rl, index.get("length")),
        "rl_note": rl_note(report, rl),
        "index": index,
        "users": users,
        "stages": report.get("stages") or {},
        "facts": facts(report),
        "commands": (report.get("provenance") or {}).get("commands") or [],
        "version": __version__,
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": duration, "three_digits": "{:.3f}".format}
    return environment.from_string(_template("report.html")).render(context)


def tiles(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The figures at the top, as far as there are any: all of the last model that was trained, and what RL changed."""
    model, name, when = ("srpo", "RL", "after RL") if report.get("srpo") else ("sft", "Align", "after SFT")
    before = report.get("sft") or {} if model == "srpo" else {}
    found = []
    for mode, metric, title in (
        ("direct", "recall@10", "Recall@10, direct mode"),
        ("reason", "pass@10", "Pass@10, reasoning"),
    ):
        value, earlier = ((one.get(mode) or {}).get(metric) for one in (report.get(model) or {}, before))
        if value is None:
            continue
        markov = ((report.get("baselines") or {}).get("markov") or {}).get(metric)
        others = (earlier, "before RL", "RL − Align"), (markov, "of Markov", f"{name} − Markov")
        changes = [
            _change(value, other, whose, *_interval(report, pair, metric))
            for other, whose, pair in others
            if other is not None
        ]
        found.append({"what": f"{title}, {when}", "figure": f"{value:.4f}", "changes": changes})
    rl = report.get("rl") or {}
    if rl.get("reward_after") is not None:
        change = _change(rl["reward_after"], rl["reward_before"], "before RL", *(rl.get("interval") or ()))
        figure = f"{rl['reward_after']:.4f}"
        found.append({"what": "Reward on validation prompts", "figure": figure, "changes": [change]})
    stages = report.get("stages") or {}
    if stages:
        figure, _, unit = duration(sum(stages.values())).partition(" ")
        machine = (report.get("provenance") or {}).get("machine") or "from raw data to this page"
        beside = (f"of it {duration(stages['rl'])} of RL; " if "rl" in stages else "") + machine
        found.append({"what": "Whole run", "figure": figure, "unit": unit, "beside": beside})
    return [{"unit": "", "changes": [], "beside": "", **tile} for tile in found]


def _change(value: float, other: float, whose: str, low: float = 0.0, high: float = 0.0) -> dict[str, str]:
    """A difference to another figure, in colour only where its interval excludes none."""
    tone = {"ours": "gain", "bad": "loss", "plain": ""}[verdict(low, high)]
    return {"change": f"{value - other:+.4f}", "tone": tone, "text": f"from {other:.4f} {whose}"}


def _interval(report: Mapping[str, Any], name: str, metric: str) -> tuple[float, ...]:
    """Of a paired comparison; empty where there is none."""
    for one in report.get("comparisons") or []:
        if (one["name"], one["metric"]) == (name, metric):
            return one["low"], one["high"]
    return ()


def duration(seconds: float) -> str:
    """
    >>> [duration(value) for value in (0.04, 8.21, 754.0, 7300.0)]
    ['0.0 s', '8.2 s', '12.6 min', '2.0 h']
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Counts of the data set, seeds and versions."""
    found = []
    for key, value in (report.get("dataset") or {}).items():
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            text = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
            found.append((key.replace("_", " "), text))
    if report.get("seeds"):
        found.append(("seeds", ", ".join(map(str, report["seeds"]))))
    provenance = report.get("provenance") or {}
    if provenance.get("machine"):
        found.append(("machine", str(provenance["machine"])))
    return [*found, *((name, str(version)) for name, version in (provenance.get("versions") or {}).items())]


def sft_note(steps: Sequence[SftStep]) -> str:
    if not steps:
        return ""
    epochs = f"{steps[-1].epoch} epoch{'s' if steps[-1].epoch > 1 else ''}"
    trained = f"{steps[-1].step:,} optimizer steps in {epochs} by LLaMA-Factory"
    if not planned(steps):
        return f"{trained}, without the curriculum."
    reason = sum(step.kind == "reason" for step in steps)
    return (
        f"{trained}, {reason:,} of them on reasoning data alone. Alignment comes first; reasoning joins with growing "
        "probability (section 4.3 of the paper)."
    )


def rl_note(report: Mapping[str, Any], steps: Sequence[RlStep]) -> str:
    rl = report.get("rl") or {}
    if not steps and not rl:
        return "This workspace has no reinforcement learning yet: run `gream rl`."
    note = f"{len(steps):,} steps of SRPO by Verl." if steps else "Verl left no log of its steps in this workspace."
    if rl.get("reward_after") is not None:
        error = rl.get("standard_error")
        note += (
            f" On the validation prompts, decoded the same way, the mean residual reward went from "
            f"{rl['reward_before']:.4f} to {rl['reward_after']:.4f}"
            + (f" (paired standard error {error:.4f})." if error is not None else ".")
            + " It counts every level that matches, so it can rise while whole items (Pass@k) are hit no more often."
        )
    return note


def _template(name: str) -> str:
    return files("gream_ext.extras.report").joinpath("templates", name).read_text(encoding="utf-8")
