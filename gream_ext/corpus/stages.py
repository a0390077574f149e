"""The stages ``corpus align``, ``corpus reason`` and ``corpus rl``: their options, and what they read and write."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gream_ext.corpus.ask_settings import ENDPOINT_KEYS, AskSettings
from gream_ext.corpus.files import dataset_info_path, rejected_path
from gream_ext.corpus.preferences import preferences_path
from gream_ext.corpus.prompt_settings import sidecar
from gream_ext.corpus.prompts import WINDOW, SystemPrompt
from gream_ext.corpus.reasoning import MAX_WORDS
from gream_ext.corpus.tasks import TASKS
from gream_ext.corpus.teachers import TEMPLATE, check_teachers
from gream_ext.corpus.words import DOMAIN_HELP, domain_file, words_of
from gream_ext.errors import GreamError
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace

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
    crop_share: float = option(0.2, least=0, most=1, help="share of the prompts with a history of random length")
    early_share: float = option(0.25, least=0, most=1, help="share of the continuations cut after their first item")
    canonical_share: float = option(0.5, least=0, most=1, help="share of the prompts in the wording of inference")
    domain: str = option("product", help=DOMAIN_HELP)
    text_words: int = option(64, least=1, help="longest item text, in words")
    seed: int = option(0, help="seed of every draw")

    def __post_init__(self) -> None:
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

    rows: int = option(10_000, least=0, help="questions an epoch, at most one for each training target; 0: all")
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
    crop_share: float = option(0.0, least=0, most=1, help="share of the prompts with a history of random length")
    most_kept: int = option(WINDOW, least=1, help="longest rewritten history, in items")
    wishes: int = option(1, least=1, help="likely wishes in the template teacher's intent, the true one among them")
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

    prompts: int = option(20_000, least=0, help="training prompts, at most one for each training target; 0: all")
    reason_share: float = option(
        0.5, least=0, most=1, help="share of the prompts in reasoning mode; direct: the others"
    )
    valid_users: int = option(0, least=0, help="validation users to watch progress on; 0: all")
    system_prompt: SystemPrompt | None = option(None, help="of reasoning mode; by default that of the reasoning data")
    window: int | None = option(
        None, least=1, help="items of a history in a prompt; by default as in the training data"
    )
    domain: str | None = option(None, help=f"{DOMAIN_HELP}; by default as in the training data")
    min_history: int = option(3, least=1, help="items that must stand before a training target")
    latest: int | None = option(
        None, least=1, help="training targets of each user, the last ones, so that none outweighs others; none: all"
    )
    seed: int = option(0, help="seed of every draw")


def corpus_reads(workspace: Workspace, domain: str | None = None) -> list[Path]:
    """The files that training text is made of."""
    paths = workspace.interactions, workspace.items, workspace.item_index
    return [*paths, *_existing(workspace.enriched), *domain_file(domain)]


def _reason_reads(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    embeddings = [workspace.embeddings] if TEMPLATE in settings.names else []
    return [*corpus_reads(workspace, settings.domain), *embeddings, *map(Path, filter(None, [settings.template]))]


def _reason_writes(workspace: Workspace, settings: ReasonSettings) -> list[Path]:
    files = [workspace.reason, sidecar(workspace.reason), rejected_path(workspace), dataset_info_path(workspace)]
    return [] if settings.dry_run else files


def _existing(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]


ALIGN = Stage(
    name="corpus align",
    settings=AlignSettings,
    run=Later("gream_ext.corpus.align:align"),
    reads=lambda workspace, own: [*corpus_reads(workspace, own.domain), *_existing(preferences_path(workspace))],
    writes=lambda workspace, settings: [workspace.align, sidecar(workspace.align), dataset_info_path(workspace)],
)
REASON = Stage("corpus reason", ReasonSettings, Later("gream_ext.corpus.reason:reason"), _reason_reads, _reason_writes)
RL = Stage(
    name="corpus rl",
    settings=RlSettings,
    run=Later("gream_ext.corpus.rl:rl"),
    reads=lambda workspace, settings: [
        *corpus_reads(workspace, settings.domain), *_existing(sidecar(workspace.align), sidecar(workspace.reason)),
    ],
    writes=lambda workspace, settings: [workspace.rl_train, workspace.rl_valid],
)  # fmt: skip
