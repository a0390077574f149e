"""Stage ``baselines recbole``: what the field compares with, trained by RecBole on our splits, measured by us."""

from dataclasses import dataclass
from typing import Any

from gream_ext.data.histories import Split
from gream_ext.errors import GreamError
from gream_ext.evaluation.protocol import check_cutoffs
from gream_ext.evaluation.stages import direct_files
from gream_ext.stage import Later, Stage, option

MODELS = ("GRU4Rec", "Caser", "HGN", "BERT4Rec", "SASRec", "S3Rec", "FDSA")


@dataclass(frozen=True)
class RecBoleSettings:
    """Which models, and how they are trained; what is left out stands in templates/recbole.yaml."""

    models: tuple[str, ...] = option(MODELS, help="models of RecBole, one after the other")
    python: str = option(".venv-recbole/bin/python", help="interpreter of the environment that has RecBole")
    split: Split = option("test", help="the interaction that is asked for")
    cutoffs: tuple[int, ...] = option((1, 5, 10), least=1, help="cutoffs of recall and NDCG")
    recommendations: int = option(20, least=1, help="items a user")
    window: int = option(20, least=1, help="items of a history that a model sees")
    trials: int = option(
        8, least=1, help="at most so many of a model's stated settings are tried; validation users choose"
    )
    overrides: dict[str, Any] = option({}, help="keys of RecBole to change in every trial, e.g. epochs=100")
    seed: int = option(0, help="seed of the training")
    gpu: bool = option(False, help="train on the GPU")

    def __post_init__(self) -> None:
        check_cutoffs(self.cutoffs, self.recommendations)
        for model in self.models:
            if model not in MODELS:
                raise GreamError(f"models names {model!r}; there are {', '.join(MODELS)}")
        if not self.models or len(set(self.models)) < len(self.models):
            raise GreamError("models must name each model once, and at least one")


def _label(settings: RecBoleSettings) -> str:
    which = "" if settings.models == MODELS else f" {' '.join(settings.models)}"
    return f"baselines recbole{which}" + ("" if settings.split == "test" else f" {settings.split}")


STAGE = Stage(
    name="baselines recbole",
    settings=RecBoleSettings,
    run=Later("gream_ext.extras.recbole.run:run"),
    reads=lambda workspace, settings: [workspace.interactions, workspace.items, workspace.item_index],
    writes=lambda workspace, settings: direct_files(workspace, settings.models, settings.split),
    label=_label,
)
