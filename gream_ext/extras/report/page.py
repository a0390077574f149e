"""The page report.html: one file without a single outside resource."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from gream_ext import __version__
from gream_ext.extras.report.charts import comparison_charts, rl_charts, sft_charts
from gream_ext.extras.report.curves import RlStep, SftStep
from gream_ext.extras.report.index import index_bars, index_facts
from gream_ext.extras.report.table import metric_name, results_table, terminal_table

LEAD = (
    "A language model that recommends from a user’s history in two modes: direct, which names the next items at once, "
    "and reasoning, which explains first. This page shows what it was trained on, how training went and how well it "
    "finds each user's last interaction, which it was never shown."
)
USERS_NOTE = (
    "Drawn by the seed, half of them among the test users whose next item direct mode found. That item is green. The "
    "reasoning is the first sample, whatever it says."
)
MISSING = {
    "baselines": "No baselines yet: `gream baselines` measures most popular and Markov.",
    "sft": "The model after supervised training is not evaluated yet: `gream evaluate --model sft`.",
    "srpo": "No figures after reinforcement learning yet: `gream rl`, then `gream evaluate --model srpo`.",
}


def page(
    report: Mapping[str, Any],
    sft: Sequence[SftStep] = (),
    rl: Sequence[RlStep] = (),
    users: Sequence[Mapping[str, Any]] = (),
    banner: str = "",
) -> str:
    """The page for a report.json, the curves of its run and a few users (see `report_users.example`)."""
    style = _template("report.css")
    charts = {"sft": sft_charts(sft), "rl": rl_charts(rl, (report.get("index") or {}).get("length"))}
    context = {
        "title": report.get("title") or "GREAM",
        "lead": LEAD,
        "style": Markup(style),
        "banner": banner,
        "missing": [*(text for key, text in MISSING.items() if not report.get(key)), *(report.get("notes") or [])],
        "tiles": tiles(report),
        "table": results_table(report),
        "comparisons": comparison_charts(report.get("comparisons") or []),
        "sft_charts": charts["sft"],
        "sft_note": sft_note(sft),
        "rl_charts": charts["rl"],
        "rl_note": rl_note(report, rl),
        "index_facts": index_facts(report.get("index") or {}),
        "index_bars": index_bars(report.get("index") or {}),
        "index_note": "How well the identifiers, which the model speaks instead of titles, are made.",
        "users": users,
        "users_note": USERS_NOTE,
        "stages": stage_bars(report.get("stages") or {}),
        "stages_note": f"{duration(sum((report.get('stages') or {}).values()))} in all, as recorded by each stage.",
        "facts": facts(report),
        "commands": (report.get("provenance") or {}).get("commands") or [],
        "footer": f"Made by gream-ext {__version__}. Every figure on this page is in report.json beside it.",
    }
    context["sections"] = _sections(context)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_template("report.html")).render(context)


def tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The four figures at the top, as far as there are any: all of the last model that was trained."""
    found = []
    model, name, after = ("srpo", "RL", "after RL") if report.get("srpo") else ("sft", "Align", "after SFT")
    direct = _figure(report, model, "direct", "recall@10")
    if direct is not None:
        markov = ((report.get("baselines") or {}).get("markov") or {}).get("recall@10")
        beside = f"against {markov:.4f} of Markov" if markov is not None else "full catalogue"
        change = direct - markov if markov is not None else None
        certain = _certain(report, f"{name} − Markov", "recall@10")
        found.append(_tile(f"Recall@10, direct mode, {after}", f"{direct:.4f}", beside, change, certain))
    reason = _figure(report, model, "reason", "pass@10")
    if reason is not None:
        before = _figure(report, "sft", "reason", "pass@10") if model == "srpo" else None
        beside = f"from {before:.4f} before RL" if before is not None else "the unbiased estimator"
        change = reason - before if before is not None else None
        certain = _certain(report, "RL − Align", "pass@10")
        found.append(_tile(f"Pass@10, reasoning mode, {after}", f"{reason:.4f}", beside, change, certain))
    rl = report.get("rl") or {}
    if rl.get("reward_after") is not None:
        change, error = rl["reward_after"] - rl["reward_before"], rl.get("standard_error")
        beside = f"from {rl['reward_before']:.4f}" + (f", standard error {error:.4f}" if error is not None else "")
        certain = _excludes_zero(rl.get("interval"))
        found.append(_tile("Reward on validation prompts", f"{rl['reward_after']:.4f}", beside, change, certain))
    seconds = sum((report.get("stages") or {}).values())
    if seconds:
        machine = (report.get("provenance") or {}).get("machine") or "from raw data to this page"
        figure, _, unit = duration(seconds).partition(" ")
        found.append({**_tile("Whole run", figure, machine), "unit": unit})
    return found


def _figure(report: Mapping[str, Any], model: str, mode: str, metric: str) -> float | None:
    value = ((report.get(model) or {}).get(mode) or {}).get(metric)
    return None if value is None else float(value)


def _certain(report: Mapping[str, Any], name: str, metric: str) -> bool:
    """Whether the interval of a paired comparison excludes no difference."""
    return any(
        _excludes_zero([one["low"], one["high"]])
        for one in report.get("comparisons") or []
        if (one["name"], one["metric"]) == (name, metric)
    )


def _excludes_zero(interval: Sequence[float] | None) -> bool:
    return interval is not None and (min(interval) > 0 or max(interval) < 0)


def _tile(what: str, figure: str, beside: str, change: float | None = None, certain: bool = False) -> dict[str, str]:
    """A change has a colour only where its interval excludes no change."""
    tile = {"what": what, "figure": figure, "unit": "", "beside": beside, "change": "", "change_tone": ""}
    if change is not None:
        tile |= {"change": f"{change:+.4f}", "change_tone": ("gain" if change > 0 else "loss") if certain else ""}
    return tile


def duration(seconds: float) -> str:
    """
    >>> [duration(value) for value in (0.04, 8.21, 754.0, 7300.0)]
    ['0.0 s', '8.2 s', '12.6 min', '2.0 h']
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def stage_bars(stages: Mapping[str, float]) -> list[dict[str, Any]]:
    longest = max(stages.values(), default=0.0) or 1.0
    return [
        {"name": name, "width": round(100 * seconds / longest, 2), "text": duration(seconds)}
        for name, seconds in stages.items()
    ]


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
    found.extend((name, str(version)) for name, version in (provenance.get("versions") or {}).items())
    return found


def sft_note(steps: Sequence[SftStep]) -> str:
    if not steps:
        return ""
    reason, epochs = sum(step.kind == "reason" for step in steps), steps[-1].epoch
    if not reason:
        return f"{steps[-1].step:,} optimizer steps in {epochs} epochs by LLaMA-Factory, without the curriculum."
    return (
        f"{len(steps):,} optimizer steps in {epochs} epochs by LLaMA-Factory, {reason:,} of them on reasoning "
        "data. Alignment comes first; reasoning joins with growing probability (section 4.3 of the paper)."
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
        )
        note += f" (paired standard error {error:.4f})." if error is not None else "."
        note += " It counts every level that matches, so it can rise while whole items (Pass@k) are hit no more often."
    return note


def terminal_text(report: Mapping[str, Any]) -> str:
    """The results for a terminal: the table, the gain of RL, and the paired differences."""
    table = results_table(report)
    lines = [terminal_table(table) if table else "nothing evaluated yet"]
    rl = report.get("rl") or {}
    if rl.get("reward_after") is not None:
        lines.append(
            f"\nmean reward on {rl['prompts']:,} validation prompts: {rl['reward_before']:.4f} before RL, "
            f"{rl['reward_after']:.4f} after, paired standard error {rl['standard_error']:.4f}"
        )
    for one in report.get("comparisons") or []:
        lines.append(
            f"{one['name']}, {metric_name(one['metric'])}: {one['difference']:+.4f}, 95 % interval "
            f"{one['low']:+.4f} to {one['high']:+.4f} ({one['users']:,} users)"
        )
    lines.extend(report.get("notes") or [])
    return "\n".join(lines)


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    wanted = (
        ("results", "Results", context["table"]),
        ("sft", "Supervised training", context["sft_charts"] or context["sft_note"]),
        ("rl", "Reinforcement learning", True),
        ("index", "Item index", context["index_facts"]),
        ("users", "A few users", context["users"]),
        ("made", "How it was made", True),
    )
    return [(anchor, name) for anchor, name, there in wanted if there]


def _template(name: str) -> str:
    return files("gream_ext.extras.report").joinpath("templates", name).read_text(encoding="utf-8")
