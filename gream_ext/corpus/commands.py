"""What ``corpus align``, ``corpus reason`` and ``corpus rl`` do."""

from dataclasses import asdict, replace

from gream_ext.corpus.align import align_rows, task_rows
from gream_ext.corpus.catalogue import Catalogue
from gream_ext.corpus.files import rejected_path, write_dataset_info, write_rows
from gream_ext.corpus.preferences import load_preferences
from gream_ext.corpus.prompt_settings import PromptSettings, read_prompt_settings, write_sidecar
from gream_ext.corpus.reason import Rows, questions
from gream_ext.corpus.rl import rl_rows, train_prompts, valid_prompts, write_rl
from gream_ext.corpus.stages import AlignSettings, ReasonSettings, RlSettings
from gream_ext.corpus.tasks.base import Source
from gream_ext.corpus.teachers import TEMPLATE, Weighted, answers, estimates, make_teacher
from gream_ext.corpus.words import words_of
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace


def run_align(workspace: Workspace, settings: AlignSettings) -> None:
    source, words = _source(workspace, settings), words_of(settings.domain)
    counts = task_rows(source, settings.mixture, settings.max_rows)
    rows = align_rows(source, counts, settings.epochs, settings.canonical_share, settings.seed, words)
    write_rows(workspace.align, rows, settings.epochs * sum(counts.values()), "corpus align")
    write_sidecar(workspace.align, settings.window, words)
    write_dataset_info(workspace)


def _source(workspace: Workspace, settings: AlignSettings | ReasonSettings) -> Source:
    histories, catalogue = training_histories(workspace), Catalogue.load(workspace)
    if isinstance(settings, ReasonSettings):
        return Source(histories, catalogue, settings.window, settings.crop_share, least=settings.min_history)
    return Source(
        histories, catalogue, settings.window, settings.crop_share, settings.early_share, settings.text_words,
        preferences=load_preferences(workspace, histories),
    )  # fmt: skip


def teachers_of(settings: ReasonSettings, workspace: Workspace) -> list[Weighted]:
    """The teachers that the settings name, each with what it says differently from the options of the stage."""
    if not settings.teachers:
        name = settings.model if settings.teacher != TEMPLATE else TEMPLATE
        return [Weighted(make_teacher(settings.teacher, name, settings, workspace), 1.0)]
    made = []
    for name, given in settings.teachers.items():
        own = {key: value for key, value in given.items() if key != "weight"}
        kind, changed = TEMPLATE if name == TEMPLATE else "llm", replace(settings, teachers={}, **own)
        made.append(Weighted(make_teacher(kind, name, changed, workspace), given.get("weight", 1)))
    return made


def run_reason(workspace: Workspace, settings: ReasonSettings) -> None:
    source, words = _source(workspace, settings), words_of(settings.domain)
    if not source.targets:
        raise GreamError(f"no user has more than min_history={settings.min_history} training items: lower min_history")
    count = min(settings.rows or len(source.targets), len(source.targets))
    asked, teachers = questions(source, count, settings.epochs, settings.seed), teachers_of(settings, workspace)
    if settings.dry_run:
        for line in estimates(teachers, asked, settings.seed):
            print(f"corpus reason: {line}")
        return
    total = count * settings.epochs
    rows = Rows(settings.system_prompt, settings.canonical_share, settings.max_words, settings.seed, words)
    written = answers(teachers, asked, settings.seed)
    accepted = rows.write(written, total, workspace.reason, rejected_path(workspace))
    write_sidecar(workspace.reason, settings.window, words, settings.system_prompt)
    write_dataset_info(workspace)
    if set(settings.names) != {TEMPLATE} and total - accepted > settings.tolerate * total:
        raise GreamError(
            f"corpus reason: {total - accepted} of {total} questions have no good answer{rows}: run again to ask for "
            f"them once more, see {rejected_path(workspace)}, or set --tolerate to the share that may be missing"
        )


def run_rl(workspace: Workspace, settings: RlSettings) -> None:
    trained = read_prompt_settings(workspace)
    asked = PromptSettings(
        settings.window or trained.direct_window,
        settings.window or trained.reason_window,
        settings.system_prompt or trained.system_prompt,
        words_of(settings.domain) if settings.domain else trained.words,
    )
    index, share, seed = ItemIndex.load(workspace.item_index), settings.reason_share, settings.seed
    histories = training_histories(workspace)
    train = train_prompts(histories, settings.prompts, share, settings.min_history, seed, settings.latest)
    write_rl(workspace.rl_train, rl_rows(train, index, "train", asked), asdict(settings), asked)
    valid = valid_prompts(workspace, settings.valid_users, share, seed)
    write_rl(workspace.rl_valid, rl_rows(valid, index, "valid", asked), asdict(settings), asked)
