"""Commands ``recommend`` and ``export``."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gream_ext.errors import GreamError
from gream_ext.inference.engines.names import (
    ENGINE_HELP,
    NORMALISATION_HELP,
    PRIOR_HELP,
    SERVER_HELP,
    WEIGHT,
    WEIGHT_HELP,
    EngineName,
    Normalisation,
    PriorName,
    check_engine,
)
from gream_ext.inference.loading import check_device
from gream_ext.inference.sharing import EXPORT_HELP, is_hub_name
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from gream_ext.inference.questions import Question
    from gream_ext.inference.source import Source


@dataclass(frozen=True)
class RecommendSettings:
    user: str | None = option(None, help="a user_id of the workspace; the whole history is used")
    history: list[str] | None = option(
        None, help="item ids, oldest first, separated by spaces or commas; none at all: a new user"
    )
    search: str | None = option(None, help="only list the items whose titles hold these words, with their ids")
    n: int = option(10, least=1, most=1000, help="how many items")
    explain: bool = option(False, help="let the model reason first, and show it")
    k: int | None = option(
        None, least=1, most=1000, help="with --explain: so many items after the reasoning, in place of direct mode's"
    )
    reasonings: int = option(1, least=1, most=64, help="with --k: reasonings to merge; the first of them is shown")
    exclude_seen: bool | None = option(
        None,
        help="leave out what is in the history; the default if nobody in the data has an item twice",
    )
    categories: list[str] = option([], help="only items of these categories")
    model: str | None = option(None, help="sft or srpo; without it the one that was trained last")
    export: str | None = option(None, help=EXPORT_HELP)
    seed: int | None = option(None, help="seed of the reasoning; without it every call differs")
    device: str = option("auto", help="cpu, cuda, cuda:1 …; auto: cuda where there is one")
    max_tokens: int = option(1024, least=1, help="longest reasoning, in tokens")
    engine: EngineName = option("transformers", help=ENGINE_HELP)
    server: str | None = option(None, help=SERVER_HELP)
    normalisation: Normalisation = option("catalogue", help=NORMALISATION_HELP)
    prior: PriorName | None = option(None, help=PRIOR_HELP)
    prior_weight: float = option(WEIGHT, least=0, help=WEIGHT_HELP)

    def __post_init__(self) -> None:
        asked = (self.user is not None, self.history is not None, self.search is not None)
        if sum(asked) != 1:
            raise GreamError("recommend needs one of --user ID, --history ID ID …, --search WORDS")
        check_engine(self.engine, self.server)
        if self.prior and self.engine == "sglang":
            raise GreamError("prior needs the transformers engine: leave one of them out")
        if self.k is not None and not self.explain:
            raise GreamError("--k ranks items after a reasoning: add --explain, or say --n for direct mode")
        if self.prior and self.k is not None:
            raise GreamError("prior guides direct mode, which --k leaves out: leave one of them out")
        if self.seed is not None and self.engine == "sglang":
            raise GreamError("--seed: the sglang engine cannot repeat a sample from its seed: leave it out")


def recommend(workspace: Workspace, settings: RecommendSettings) -> None:
    from gream_ext.inference import recommend as command
    from gream_ext.inference.model import load
    from gream_ext.inference.source import find_source

    if settings.server is None:
        check_device(settings.device)
    source = find_source(workspace, settings.model, settings.export)
    if settings.search is not None:
        command.show_found(source.titles, settings.search, settings.n)
        return
    question = make_question(source, settings)
    weight = settings.prior_weight if settings.prior else None
    how = settings.engine, settings.server, settings.normalisation, weight
    recommender = load(source, settings.device, settings.max_tokens, *how)
    command.show_history(source.titles, question.history)
    if settings.explain:
        command.explain(recommender, question)
    if settings.explain and settings.k is None:
        print("Direct mode, without reasoning:")
    if settings.k is None:
        command.show(recommender.direct([question])[0])
    if settings.exclude_seen is None and question.exclude:
        print("\nItems of the history are left out: nobody in the data has an item twice (--no-exclude-seen).")


def make_question(source: "Source", settings: RecommendSettings) -> "Question":
    """Check what was asked; `GreamError` for an unknown user, item or category."""
    from gream_ext.inference.questions import Question
    from gream_ext.inference.recommend import listed, of_categories, user_history

    user = settings.user
    history = user_history(source, user) if user is not None else listed(source.titles, settings.history or [])
    among = of_categories(source.titles, settings.categories)
    leave_out = not source.repeats if settings.exclude_seen is None else settings.exclude_seen
    seed = settings.seed
    if seed is None and settings.engine != "sglang":
        seed = secrets.randbits(32)
    reasonings = 0 if settings.k is None else settings.reasonings
    return Question(history, settings.k or settings.n, frozenset(history if leave_out else ()), among, seed, reasonings)


@dataclass(frozen=True)
class ExportSettings:
    model: str | None = option(None, help="sft or srpo; without it the one that was trained last")
    output: str | None = option(None, help="folder to write, which must not exist; without it export/ in the workspace")
    push: str | None = option(None, help="owner/name on the Hugging Face hub, to upload the export to as well")
    private: bool = option(True, help="make a new repository there private")
    license: str | None = option(None, help="for the card: of the model; without it that of the base model")
    dataset: str | None = option(None, help="for the card: what the data are called, owner/name if they are on the hub")

    def __post_init__(self) -> None:
        if self.push is not None and ("@" in self.push or not is_hub_name(self.push)):
            raise GreamError(f"--push {self.push}: a repository of the Hugging Face hub is called owner/name")


def export(workspace: Workspace, settings: ExportSettings) -> None:
    from gream_ext.inference.card import Said
    from gream_ext.inference.export import export
    from gream_ext.inference.sharing import push_export

    folder = output_folder(workspace, settings)
    said = Said(settings.license, settings.dataset, settings.push)
    export(workspace, settings.model, folder, settings.output is not None, said)
    if settings.push is not None:
        print(f"export: {push_export(folder, settings.push, settings.private)}")


def output_folder(workspace: Workspace, settings: ExportSettings) -> Path:
    return Path(settings.output) if settings.output else workspace.path("export")


def _export_reads(workspace: Workspace, settings: ExportSettings) -> list[Path]:
    """Beside the model its evaluations, also before they are there: a later one makes the export out of date."""
    from gream_ext.evaluation.files import MODES, stem
    from gream_ext.evaluation.files import files as files_of
    from gream_ext.inference.source import latest_model

    model = settings.model or latest_model(workspace)
    files = [workspace.model(model), workspace.item_index, workspace.items, workspace.statistics]
    return [*files, *(files_of(stem(workspace, model, mode, "test", False))[1] for mode in MODES)]


def _export_writes(workspace: Workspace, settings: ExportSettings) -> list[Path]:
    """Elsewhere the folder is not the workspace's to remember: it need not be writable."""
    return [] if settings.output else [output_folder(workspace, settings)]


RECOMMEND = Stage(name="recommend", settings=RecommendSettings, run=recommend)
EXPORT = Stage(name="export", settings=ExportSettings, run=export, reads=_export_reads, writes=_export_writes)
