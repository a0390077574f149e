"""The stages ``corpus align``, ``corpus reason`` and ``corpus rl``: their options, and what they read and write."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gream_ext.corpus.ask_settings import ENDPOINT_KEYS, AskSettings
from gream_ext.corpus.files import dataset_info_path, rejected_path, write_dataset_info, write_rows
from gream_ext.corpus.preferences import load_preferences, preferences_path
from gream_ext.corpus.prompt_settings import PromptSettings, read_prompt_settings, sidecar, write_sidecar
from gream_ext.corpus.prompts import WINDOW, SystemPrompt
from gream_ext.corpus.teachers import TEMPLATE, Weighted, answers, check_teachers, estimates, make_teacher
from gream_ext.corpus.validate import MAX_WORDS
from gream_ext.corpus.words import DOMAIN_HELP, domain_file, words_of
from gream_ext.errors import GreamError
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

if TYPE_CHECKING:
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
        from gream_ext.corpus.tasks import TASKS

        words_of(self.domain)
        for name, share in self.mixture.items():
            if name not in TASKS:
                raise GreamError(f"mixture names task {name!r}; the tasks are {', '.join(TASKS)}")
            # Written so that NaN is refused too.
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= MOST_SHARE:
                raise GreamError(f"mixture of task {name!r} is {share!r}: give a number from 0 to {MOST_SHARE:,}")


@dataclass(frozen=True)
class ReasonSettings(AskSettings):
    """How much reasoning data, and how it is written; the options of an LLM matter to teacher llm alone."""

    rows: int = option(
        10_000,
        least=0,
        help="questions an epoch, at most one for each training target; "
        "0: every training target that has min_history items before it",
    )
    epochs: int = option(3, least=1, help="epochs that get a draw of their own; 1: the same rows in every epoch")
    teacher: Literal["template", "llm"] = option("template", help="who writes the reasoning; llm needs an endpoint")
    teachers: dict[str, Any] = option(
        {},
        help="several teachers that share the questions by weight, each NAME={base_url: …, model: …, weight: 2} with "
        "what differs from the options of the LLM; the name template is the template teacher's",
    )
    template: str | None = option(None, help="a file in place of templates/teacher.txt, with [system] and [user] parts")
    system_prompt: SystemPrompt = option("full", help="the appendix's system prompt or one of one line")
    domain: str = option("product", help=DOMAIN_HELP)
    window: int = option(WINDOW, least=1, help="items of a history that a prompt shows")
    min_history: int = option(3, least=1, help="items that must stand before a target")
    crop_share: float = option(
        0.0, least=0, most=1, help="share of the prompts whose history is cut to a random shorter length"
    )
    most_kept: int = option(WINDOW, least=1, help="longest rewritten history, in items")
    wishes: int = option(
        1, least=1, help="likely wishes that the template teacher's intent names, the true one among them"
    )
    max_words: int = option(MAX_WORDS, least=1, help="longest thinking, in words; a longer answer is rejected")
    canonical_share: float = option(0.5, least=0, most=1, help="share of prompts and sentences in the first wording")
    seed: int = option(0, help="seed of every draw")

    @property
    def names(self) -> Sequence[str]:
        """The teachers that write."""
        return list(self.teachers) or [self.teacher]

    def __post_init__(self) -> None:
        check_teachers(self.teachers, ENDPOINT_KEYS)
        words_of(self.domain)


@dataclass(frozen=True)
class RlSettings:
    """Which prompts reinforcement learning gets."""

    prompts: int = option(
        20_000,
        least=0,
        help="training prompts, at most one for each training target; "
        "0: every training target that has min_history items before it",
    )
    reason_share: float = option(
        0.5, least=0, most=1, help="share of the prompts in reasoning mode, the others in direct mode"
    )
    valid_users: int = option(0, least=0, help="validation users to watch progress on; 0: all")
    system_prompt: SystemPrompt | None = option(
        None, help="system prompt of reasoning mode; by default that of the reasoning data"
    )
    window: int | None = option(
        None, least=1, help="items of a history that a prompt shows; by default as in the training data of each mode"
    )
    domain: str | None = option(None, help=f"{DOMAIN_HELP}; by default as in the training data")
    min_history: int = option(3, least=1, help="items that must stand before a training target")
    latest: int | None = option(
        None,
        least=1,
        help="only so many training targets of each user, the last ones: nearest to what evaluation asks, and users with "
        "long histories do not outweigh the others; none: all",
    )
    seed: int = option(0, help="seed of every draw")


def corpus_reads(workspace: Workspace, domain: str | None = None) -> list[Path]:
    """The files that training text is made of."""
    paths = workspace.interactions, workspace.items, workspace.item_index
    return [*paths, *_existing(workspace.enriched), *domain_file(domain)]


def run_align(workspace: Workspace, settings: AlignSettings) -> None:
    from gream_ext.corpus.align import align_rows, task_rows

    source, words = _source(workspace, settings), words_of(settings.domain)
    counts = task_rows(source, settings.mixture, settings.max_rows)
    rows = align_rows(source, counts, settings.epochs, settings.canonical_share, settings.seed, words)
    write_rows(workspace.align, rows, settings.epochs * sum(counts.values()), "corpus align")
    write_sidecar(workspace.align, settings.window, words)
    write_dataset_info(workspace)


def _source(workspace: Workspace, settings: AlignSettings | ReasonSettings) -> "Source":
    from gream_ext.corpus.catalogue import Catalogue
    from gream_ext.corpus.tasks.base import Source
    from gream_ext.data.histories import training_histories

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
    from gream_ext.corpus.reason import Rows, questions

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


def reason_reads(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    embeddings = [workspace.embeddings] if TEMPLATE in settings.names else []
    return [*corpus_reads(workspace, settings.domain), *embeddings, *map(Path, filter(None, [settings.template]))]


def reason_writes(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    files = [workspace.reason, sidecar(workspace.reason), rejected_path(workspace), dataset_info_path(workspace)]
    return [] if settings.dry_run else files


def run_rl(workspace: Workspace, settings: RlSettings) -> None:
    from gream_ext.corpus.rl import rl_rows, train_prompts, valid_prompts, write_rl
    from gream_ext.data.histories import training_histories
    from gream_ext.items.index import ItemIndex

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


def _existing(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]


ALIGN = Stage(
    name="corpus align",
    settings=AlignSettings,
    run=run_align,
    reads=lambda workspace, own: [*corpus_reads(workspace, own.domain), *_existing(preferences_path(workspace))],
    writes=lambda workspace, settings: [workspace.align, sidecar(workspace.align), dataset_info_path(workspace)],
)
REASON = Stage("corpus reason", ReasonSettings, run_reason, reason_reads, reason_writes)
RL = Stage(
    name="corpus rl",
    settings=RlSettings,
    run=run_rl,
    reads=lambda workspace, settings: [
        *corpus_reads(workspace, settings.domain), *_existing(sidecar(workspace.align), sidecar(workspace.reason)),
    ],
    writes=lambda workspace, settings: [workspace.rl_train, workspace.rl_valid],
)  # fmt: skip
