"""Stage ``corpus rl``: prompts with their true answers for Verl, from training targets; others to watch progress on."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from gream_ext import __version__
from gream_ext.corpus.align import corpus_reads
from gream_ext.corpus.draw import shuffled
from gream_ext.corpus.prompt_settings import PromptSettings, read_prompt_settings, sidecar
from gream_ext.corpus.prompts import (
    Message,
    SystemPrompt,
    direct_messages,
    history_text,
    reason_messages,
)
from gream_ext.corpus.words import DOMAIN_HELP, words_of
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace, whole

Mode = Literal["direct", "reason"]


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
    seed: int = option(0, help="seed of every draw")


@dataclass(frozen=True)
class Prompt:
    """One question to the policy and its answer."""

    mode: Mode
    user_id: str
    history: Sequence[str]
    target: str


def train_prompts(histories: dict[str, tuple[str, ...]], settings: RlSettings) -> Iterator[Prompt]:
    """Training targets in random order with the items before them; the same for the same seed."""
    from gream_ext.corpus.draw import Numbered

    least = settings.min_history
    targets = Numbered({user: max(0, len(history) - least) for user, history in histories.items()})
    if not len(targets):
        raise GreamError(f"no user has more than min_history={least} training items: lower min_history")
    chance = Random(f"rl/{settings.seed}/modes")
    count = min(settings.prompts or len(targets), len(targets))
    for unit in shuffled(len(targets), count, f"rl/{settings.seed}"):
        user, number = targets[unit]
        place = number + least
        mode: Mode = "reason" if chance.random() < settings.reason_share else "direct"
        yield Prompt(mode, user, histories[user][:place], histories[user][place])


def valid_prompts(workspace: Workspace, settings: RlSettings) -> Iterator[Prompt]:
    """Validation users, each asked once in every mode that training uses."""
    from gream_ext.data.histories import evaluation_cases

    cases = evaluation_cases(workspace, "valid")
    count = min(settings.valid_users or len(cases), len(cases))
    share = settings.reason_share
    modes: list[Mode] = [*(["direct"] if share < 1 else []), *(["reason"] if share > 0 else [])]  # type: ignore[list-item]
    for row in sorted(shuffled(len(cases), count, f"rl/{settings.seed}/valid")):
        for mode in modes:
            yield Prompt(mode, cases[row].user_id, cases[row].history, cases[row].target)


def asked_as(workspace: Workspace, settings: RlSettings) -> PromptSettings:
    """The prompts of the training data, with what the settings say otherwise."""
    trained = read_prompt_settings(workspace)
    return PromptSettings(
        settings.window or trained.direct_window,
        settings.window or trained.reason_window,
        settings.system_prompt or trained.system_prompt,
        words_of(settings.domain) if settings.domain else trained.words,
    )


def rl_rows(prompts: Iterable[Prompt], index: ItemIndex, split: str, asked: PromptSettings) -> Iterator[dict[str, Any]]:
    """The columns that Verl reads."""
    for number, prompt in enumerate(prompts):
        yield {
            "data_source": "gream",
            "prompt": messages_of(prompt, index, asked),
            "ability": "recommendation",
            "reward_model": {"style": "rule", "ground_truth": index.text(prompt.target)},
            "extra_info": {"mode": prompt.mode, "user_id": prompt.user_id, "index": number, "split": split},
        }


def messages_of(prompt: Prompt, index: ItemIndex, asked: PromptSettings) -> list[Message]:
    """The canonical prompt of its mode."""
    if prompt.mode == "direct":
        return direct_messages(history_text(index, prompt.history, asked.direct_window), words=asked.words)
    history = history_text(index, prompt.history, asked.reason_window)
    return reason_messages(history, system_prompt=asked.system_prompt, words=asked.words)


def write_rl(path: Path, rows: Iterable[dict[str, Any]], settings: RlSettings, asked: PromptSettings) -> None:
    """Write prompts whole, with what made them in the file."""
    import polars as pl

    about = {"kind": "rl_prompts", "version": 1, "gream_ext": __version__, "settings": asdict(settings)}
    about["prompts"] = asked.as_json()
    with whole(path) as draft:
        pl.DataFrame(list(rows)).write_parquet(draft, metadata={"gream": json.dumps(about)})


def run(workspace: Workspace, settings: RlSettings) -> None:
    from gream_ext.data.histories import training_histories

    index = ItemIndex.load(workspace.item_index)
    histories = training_histories(workspace)
    asked = asked_as(workspace, settings)
    train, valid = train_prompts(histories, settings), valid_prompts(workspace, settings)
    write_rl(workspace.rl_train, rl_rows(train, index, "train", asked), settings, asked)
    write_rl(workspace.rl_valid, rl_rows(valid, index, "valid", asked), settings, asked)


STAGE = Stage(
    name="corpus rl",
    settings=RlSettings,
    run=run,
    reads=lambda workspace, settings: [
        *corpus_reads(workspace),
        *(path for path in map(sidecar, (workspace.align, workspace.reason)) if path.exists()),
    ],
    writes=lambda workspace, settings: [workspace.rl_train, workspace.rl_valid],
)
