"""The stage ``corpus align``: the alignment data of section 4.1, from training interactions alone."""

from collections.abc import Iterator, Mapping
from random import Random

from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.draw import interleaved, shuffled
from gream_ext.corpus.files import Row, row, write_dataset_info, write_rows
from gream_ext.corpus.preferences import load_preferences
from gream_ext.corpus.prompt_settings import write_sidecar
from gream_ext.corpus.prompts import drawn_wording
from gream_ext.corpus.source import Source
from gream_ext.corpus.stages import AlignSettings
from gream_ext.corpus.tasks import TASKS
from gream_ext.corpus.words import PRODUCT, Words, words_of
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace


def align(workspace: Workspace, settings: AlignSettings) -> None:
    histories, words = training_histories(workspace), words_of(settings.domain)
    source = Source(
        histories, Catalogue.load(workspace), settings.window, settings.crop_share, settings.early_share,
        settings.text_words, preferences=load_preferences(workspace, histories),
    )  # fmt: skip
    counts = task_rows(source, settings.mixture, settings.max_rows)
    rows = align_rows(source, counts, settings.epochs, settings.canonical_share, settings.seed, words)
    write_rows(workspace.align, rows, settings.epochs * sum(counts.values()), "corpus align")
    write_sidecar(workspace.align, settings.window, words)
    write_dataset_info(workspace)


def task_rows(source: Source, mixture: Mapping[str, float], max_rows: int = 0) -> dict[str, int]:
    """Rows an epoch of each task: ``mixture`` as multiples of its population, else its own share.

    ``max_rows`` caps each task, 0 none. `GreamError` when nothing is left.
    """
    counts = {name: round(task.population(source) * mixture.get(name, task.share)) for name, task in TASKS.items()}
    if max_rows:
        counts = {name: min(count, max_rows) for name, count in counts.items()}
    if not any(counts.values()):
        raise GreamError("the mixture leaves no alignment rows: raise it, or bring interactions of two items or more")
    return counts


def align_rows(
    source: Source,
    counts: Mapping[str, int],
    epochs: int,
    canonical_share: float = 1.0,
    seed: int = 0,
    words: Words = PRODUCT,
) -> Iterator[Row]:
    """All rows, epoch by epoch, ``counts`` of each task in random order; the same for the same seed."""
    # One run of units over all epochs: a task that shows a part of its population shows another part each epoch.
    units = {
        name: shuffled(TASKS[name].population(source), count * epochs, f"align/{seed}/{name}")
        for name, count in counts.items()
    }
    rngs = {name: Random(f"align/{seed}/{name}/rows") for name in counts}
    for epoch in range(1, epochs + 1):
        for name in interleaved(counts, f"align/{seed}/{epoch}"):
            slots, response = TASKS[name].write(source, next(units[name]), rngs[name])
            prompt = drawn_wording("direct" if name == "next" else name, canonical_share, rngs[name], words)
            messages = [
                {"role": "user", "content": prompt.format_map(slots)},
                {"role": "assistant", "content": response},
            ]
            yield row("align", name, epoch if epochs > 1 else None, messages)
