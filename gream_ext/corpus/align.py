"""Stage ``corpus align``: the alignment data of section 4.1, from training interactions alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from gream_ext.corpus.draw import interleaved, shuffled
from gream_ext.corpus.files import Row, dataset_info_path, row, write_dataset_info, write_rows
from gream_ext.corpus.prompt_settings import sidecar, write_sidecar
from gream_ext.corpus.prompts import WINDOW, drawn_wording
from gream_ext.corpus.told import load_told, told_path
from gream_ext.corpus.words import DOMAIN_HELP, words_of
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
    from gream_ext.corpus.catalogue import Catalogue
    from gream_ext.corpus.tasks.base import Source


MOST_SHARE = 1_000_000
"""Nobody means more than that: far above any use, far below what overflows."""


@dataclass(frozen=True)
class AlignSettings:
    """How much alignment data of which tasks."""

    mixture: dict[str, float] = option(
        {},
        help="rows an epoch of a task as a multiple of its population (training targets, windows, items or users), "
        "e.g. next=1.0; 0 leaves the task out; a task not named keeps its default",
    )
    max_rows: int = option(0, least=0, help="at most so many rows of one task in an epoch; 0: no limit")
    epochs: int = option(3, least=1, help="epochs that get a draw of their own; 1: the same rows in every epoch")
    window: int = option(WINDOW, least=1, help="items of a history that a prompt shows")
    crop_share: float = option(
        0.2, least=0, most=1, help="share of the prompts whose history is cut to a random shorter length"
    )
    early_share: float = option(
        0.25, least=0, most=1, help="share of the continuations that are cut after their first item"
    )
    canonical_share: float = option(
        0.5, least=0, most=1, help="share of the prompts in the first wording, which inference uses"
    )
    domain: str = option("product", help=DOMAIN_HELP)
    text_words: int = option(64, least=1, help="longest item text, in words")
    seed: int = option(0, help="seed of every draw")

    def __post_init__(self) -> None:
        words_of(self.domain)
        from gream_ext.corpus.tasks import TASKS

        for name, share in self.mixture.items():
            if name not in TASKS:
                raise GreamError(f"mixture names task {name!r}; the tasks are {', '.join(TASKS)}")
            # Written so that NaN is refused too.
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= MOST_SHARE:
                raise GreamError(f"mixture of task {name!r} is {share!r}: give a number from 0 to {MOST_SHARE:,}")


def task_rows(source: "Source", settings: AlignSettings) -> dict[str, int]:
    """Rows an epoch of each task; `GreamError` when nothing is left."""
    from gream_ext.corpus.tasks import TASKS

    counts = {
        name: round(task.population(source) * settings.mixture.get(name, task.share)) for name, task in TASKS.items()
    }
    if settings.max_rows:
        counts = {name: min(count, settings.max_rows) for name, count in counts.items()}
    if not any(counts.values()):
        raise GreamError("the mixture leaves no alignment rows: raise it, or bring interactions of two items or more")
    return counts


def align_rows(source: "Source", settings: AlignSettings) -> Iterator[Row]:
    """All rows, epoch by epoch, tasks in random order; the same for the same seed."""
    from gream_ext.corpus.tasks import TASKS

    counts, words = task_rows(source, settings), words_of(settings.domain)
    # One run of units over all epochs: a task that shows a part of its population shows another part each epoch.
    units = {
        name: shuffled(TASKS[name].population(source), count * settings.epochs, f"align/{settings.seed}/{name}")
        for name, count in counts.items()
    }
    chances = {name: Random(f"align/{settings.seed}/{name}/rows") for name in counts}
    for epoch in range(1, settings.epochs + 1):
        for name in interleaved(counts, f"align/{settings.seed}/{epoch}"):
            slots, response = TASKS[name].write(source, next(units[name]), chances[name])
            task = "direct" if name == "next" else name
            prompt = drawn_wording(task, settings.canonical_share, chances[name], words)
            messages = [
                {"role": "user", "content": prompt.format_map(slots)},
                {"role": "assistant", "content": response},
            ]
            yield row("align", name, epoch if settings.epochs > 1 else None, messages)


def load_catalogue(workspace: Workspace) -> "Catalogue":
    """All items; the title and the enriched description take the place of the composite text where there is one."""
    from gream_ext.corpus.catalogue import Catalogue
    from gream_ext.extras.ask.enrich import enriched_descriptions

    return Catalogue.load(workspace, enriched_descriptions(workspace))


def run(workspace: Workspace, settings: AlignSettings) -> None:
    from gream_ext.corpus.tasks.base import Source
    from gream_ext.data.histories import training_histories

    histories, catalogue = training_histories(workspace), load_catalogue(workspace)
    source = Source(
        histories, catalogue, settings.window, settings.crop_share, settings.early_share, settings.text_words,
        told=load_told(workspace, histories),
    )  # fmt: skip
    total = settings.epochs * sum(task_rows(source, settings).values())
    write_rows(workspace.align, align_rows(source, settings), total, "corpus align")
    write_sidecar(workspace.align, settings.window, words_of(settings.domain))
    write_dataset_info(workspace)


def corpus_reads(workspace: Workspace) -> Sequence[Path]:
    """The files that training text is made of."""
    paths = [workspace.interactions, workspace.items, workspace.item_index]
    return [*paths, workspace.enriched] if workspace.enriched.exists() else paths


STAGE = Stage(
    name="corpus align",
    settings=AlignSettings,
    run=run,
    reads=lambda workspace, settings: [
        *corpus_reads(workspace),
        *([told_path(workspace)] if told_path(workspace).exists() else []),
    ],
    writes=lambda workspace, settings: [workspace.align, sidecar(workspace.align), dataset_info_path(workspace)],
)
