"""Stages ``evaluate``, ``baselines`` and ``baselines bring``, and the command ``compare``: their settings."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.data.histories import Split
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import OWN_MODELS, files, foreign_name, model_folder, model_name, stem, with_prior
from gream_ext.evaluation.protocol import check_cutoffs
from gream_ext.inference.engines.names import ENGINE_HELP, SERVER_HELP, EngineName, check_engine
from gream_ext.inference.prior_options import PRIOR_HELP, WEIGHT, WEIGHT_HELP, PriorName
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace

BASELINE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}")
SIMPLE = ("popular", "markov", "co-occurrence")


@dataclass(frozen=True)
class EvaluateSettings:
    """Which model, which mode, whom, and how to decode.

    By default ``cutoffs``, ``beams``, ``temperature`` and ``top_p`` are the paper's (6.1.2) and ``n`` what its Pass@10
    needs; how long a response may be it does not say.
    """

    model: str = option("sft", help="sft, srpo or base_model of the workspace, or the folder of another model")
    mode: Literal["direct", "reason"] = option(
        "direct",
        help="beam search, or samples that reason first; one evaluation of a model, mode and split is kept: the same "
        "with other settings, such as beams, n, temperature or window, takes its place",
    )
    split: Split = option("test", help="the interaction that is asked for")
    exclude_seen: bool = option(
        False, help="never recommend what is in the user's history, and say what that rules out"
    )
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="cutoffs of recall and NDCG, k of Pass@k")
    beams: int = option(20, least=1, help="direct mode: width of the beam, and items a user")
    normalisation: Literal["catalogue", "vocabulary"] = option(
        "catalogue", help="direct mode: each token's probability among those of real items, or among all (eq. 1)"
    )
    n: int = option(10, least=1, help="reasoning mode: samples a user")
    temperature: float = option(0.7, least=0, help="reasoning mode: temperature")
    top_p: float = option(0.9, above=0, most=1, help="reasoning mode: top-p")
    max_new_tokens: int = option(512, least=1, help="reasoning mode: longest response, in tokens")
    constrained: bool = option(True, help="reasoning mode: after <answer> only real items can be named")
    rank: bool = option(False, help="reasoning mode: a beam search after each reasoning: recall and NDCG beside Pass@k")
    faithful: bool = option(True, help="reasoning mode: a rewritten history keeps to the user's; needs constrained")
    prior: PriorName | None = option(None, help=PRIOR_HELP)
    prior_weight: float = option(WEIGHT, least=0, help=WEIGHT_HELP)
    beta: float = option(0.5, above=0, most=1, help="reasoning mode: exponent of the residual reward (eq. 14)")
    window: int | None = option(None, least=1, help="items of a history in a prompt; none: as in training, or 20")
    system_prompt: Literal["auto", "full", "short"] = option("auto", help="of reasoning mode; auto: as in training")
    limit: int | None = option(
        None, least=1, help="only the first users, for a trial, in files named …-firstN; none: all"
    )
    seed: int = option(0, help="seed of the samples")
    device: str = option("auto", help="cpu, cuda, cuda:1 …; auto: cuda where there is one", machine=True)
    dtype: Literal["auto", "float32", "bfloat16"] = option("auto", help="number format; auto: as saved")
    engine: EngineName = option("transformers", help=ENGINE_HELP)
    server: str | None = option(None, help=SERVER_HELP, machine=True)
    processes: int = option(1, least=1, help="that share the users, each with the model in memory", machine=True)
    threads: int | None = option(
        None, least=1, help="of each process; none: the cores shared out, or OMP_NUM_THREADS", machine=True
    )
    tokens_at_once: int = option(
        16_384, least=1, help="direct mode: tokens of prompts and beams computed together", machine=True
    )
    prompts_at_once: int | None = option(None, least=1, help="direct mode: prompts computed together", machine=True)
    rows_at_once: int = option(512, least=1, help="reasoning mode: samples computed together", machine=True)

    def __post_init__(self) -> None:
        if not self.constrained and self.exclude_seen and self.mode == "reason":
            raise GreamError("exclude_seen needs constrained answers in reasoning mode: leave constrained on")
        check_engine(self.engine, self.server)
        if self.prior and (self.mode != "direct" or self.engine != "transformers"):
            raise GreamError("prior needs direct mode and the transformers engine: leave it out")
        if self.engine == "sglang" and self.processes > 1:
            raise GreamError("processes must be 1 with the sglang engine, which shares its work out itself")
        check_cutoffs(self.cutoffs, self.beams if self.mode == "direct" else self.n)


def evaluated(workspace: Workspace, settings: EvaluateSettings) -> Path:
    """The stem of the files."""
    name = with_prior(model_name(workspace, settings.model), settings.prior, settings.prior_weight)
    path = stem(workspace, name, settings.mode, settings.split, settings.exclude_seen)
    return path if settings.limit is None else path.with_name(f"{path.name}-first{settings.limit}")


def _evaluate_reads(workspace: Workspace, settings: EvaluateSettings) -> list[Path]:
    model = model_folder(workspace, settings.model)
    if not (model / "config.json").exists():
        model = model / "config.json"  # no model folder, which the run says: not to be read to its last file
    return [model, workspace.item_index, workspace.interactions]


def evaluate_label(settings: EvaluateSettings) -> str:
    seen = " unseen" if settings.exclude_seen else ""
    trial = "" if settings.limit is None else f" first{settings.limit}"
    model = foreign_name(Path(settings.model)) if "/" in settings.model else settings.model
    model = with_prior(model, settings.prior, settings.prior_weight)
    return f"evaluate {model} {settings.mode} {settings.split}{seen}{trial}"


EVALUATE = Stage(
    name="evaluate",
    settings=EvaluateSettings,
    run=Later("gream_ext.evaluation.evaluate:evaluate"),
    reads=_evaluate_reads,
    writes=lambda workspace, settings: files(evaluated(workspace, settings)),
    label=evaluate_label,
)


@dataclass(frozen=True)
class BaselinesSettings:
    """Which split, and how many recommendations a user."""

    split: Split = option("test", help="the interaction that is asked for")
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="cutoffs of recall and NDCG")
    recommendations: int = option(20, least=1, help="items a user")

    def __post_init__(self) -> None:
        check_cutoffs(self.cutoffs, self.recommendations)


def direct_files(workspace: Workspace, names: Sequence[str], split: str) -> list[Path]:
    """What baselines of these names leave behind."""
    stems = [stem(workspace, name, "direct", split, exclude_seen) for name in names for exclude_seen in (False, True)]
    return [file for path in stems for file in files(path)]


BASELINES = Stage(
    name="baselines",
    settings=BaselinesSettings,
    run=Later("gream_ext.evaluation.baselines:measure_simple"),
    reads=lambda workspace, settings: [workspace.interactions, workspace.item_index],
    writes=lambda workspace, settings: direct_files(workspace, SIMPLE, settings.split),
    label=lambda settings: "baselines" if settings.split == "test" else f"baselines {settings.split}",
)


@dataclass(frozen=True)
class BringSettings:
    """Which evaluation of another workspace, and what it is called here, such as TIGER."""

    name: str = option(help="what the baseline is called, such as TIGER")
    source: str = option(help="the other workspace, whose model `gream evaluate` has measured in direct mode")
    model: str = option("sft", help="its model there")
    split: Split = option("test", help="the interaction that is asked for")

    def __post_init__(self) -> None:
        if not BASELINE_NAME.fullmatch(self.name) or self.name in (*OWN_MODELS, *SIMPLE):
            raise GreamError(f"name {self.name!r} is taken or no name: give letters, digits, blanks, dots and dashes")


def _sources(settings: BringSettings) -> list[Path]:
    """The files there, as far as they are; which ones there are decides what is written here."""
    found = direct_files(Workspace(settings.source), [settings.model], settings.split)
    return [file for file in found if file.exists()]


BRING = Stage(
    name="baselines bring",
    settings=BringSettings,
    run=Later("gream_ext.evaluation.baselines:bring"),
    reads=lambda workspace, settings: [workspace.interactions, *_sources(settings)],
    writes=lambda workspace, settings: [
        workspace.path("evaluation", settings.name, file.name) for file in _sources(settings)
    ],
    label=lambda settings: f"baselines bring {settings.name}" + ("" if settings.split == "test" else " valid"),
)


@dataclass(frozen=True)
class CompareSettings:
    """Which two evaluations of a workspace, and in what."""

    first: str = option(help="a model or baseline that has been evaluated: markov, SASRec, sft, or a model's folder")
    second: str = option(help="the other; differences are second minus first")
    mode: Literal["direct", "reason"] = option("direct", help="of both")
    split: Split = option("test", help="whose interactions were asked for")
    exclude_seen: bool = option(False, help="the evaluations that never recommend what is in the user's history")
    figures: tuple[str, ...] = option((), help="such as recall@10, ndcg@5, pass@1, first@10, reward; none: the usual")
    other: str | None = option(None, help="workspace of the second, where it is another one")


COMPARE = Stage(name="compare", settings=CompareSettings, run=Later("gream_ext.evaluation.compare:compare_models"))
"""A command: it writes nothing."""
