"""Commands ``recommend`` and ``export``."""

from dataclasses import dataclass
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.evaluation.files import MODES, stem
from gream_ext.evaluation.files import files as files_of
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
from gream_ext.inference.sharing import EXPORT_HELP, is_hub_name
from gream_ext.inference.source import latest_model
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace


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


def output_folder(workspace: Workspace, settings: ExportSettings) -> Path:
    return Path(settings.output) if settings.output else workspace.path("export")


def _export_reads(workspace: Workspace, settings: ExportSettings) -> list[Path]:
    """Beside the model its evaluations, also before they are there: a later one makes the export out of date."""
    model = settings.model or latest_model(workspace)
    files = [workspace.model(model), workspace.item_index, workspace.items, workspace.statistics]
    return [*files, *(files_of(stem(workspace, model, mode, "test", False))[1] for mode in MODES)]


def _export_writes(workspace: Workspace, settings: ExportSettings) -> list[Path]:
    """Elsewhere the folder is not the workspace's to remember: it need not be writable."""
    return [] if settings.output else [output_folder(workspace, settings)]


RECOMMEND = Stage(name="recommend", settings=RecommendSettings, run=Later("gream_ext.inference.commands:run_recommend"))
EXPORT = Stage(
    name="export",
    settings=ExportSettings,
    run=Later("gream_ext.inference.commands:run_export"),
    reads=_export_reads,
    writes=_export_writes,
)
