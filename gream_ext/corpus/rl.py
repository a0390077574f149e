"""The stage ``corpus rl``: prompts with their true answers for Verl.

Training targets to learn from, validation users to watch progress on.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from random import Random
from typing import Any, Literal, NamedTuple

import polars as pl

from gream_ext import __version__
from gream_ext.corpus.draw import Numbered, shuffled
from gream_ext.corpus.prompt_settings import PromptSettings, read_prompt_settings
from gream_ext.corpus.prompts import Message, direct_messages, history_text, reason_messages
from gream_ext.corpus.stages import RlSettings
from gream_ext.corpus.words import words_of
from gream_ext.data.histories import evaluation_cases, training_histories
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace, whole

Mode = Literal["direct", "reason"]


class Prompt(NamedTuple):
    """One question to the policy and its answer."""

    mode: Mode
    user_id: str
    history: Sequence[str]
    target: str


def rl(workspace: Workspace, settings: RlSettings) -> None:
    """Write both files."""
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
    valid = valid_prompts(workspace, settings.valid_users, share, seed)
    metadata = {
        "kind": "rl_prompts", "version": 1, "gream_ext": __version__, "settings": asdict(settings),
        "prompts": asked.as_json(),
    }  # fmt: skip
    for path, prompts in ((workspace.rl_train, train), (workspace.rl_valid, valid)):
        rows = list(rl_rows(prompts, index, path.stem, asked))
        with whole(path) as draft:
            pl.DataFrame(rows).write_parquet(draft, metadata={"gream": json.dumps(metadata)})


def train_prompts(
    histories: Mapping[str, Sequence[str]],
    count: int,
    reason_share: float = 0.5,
    least: int = 3,
    seed: int = 0,
    latest: int | None = None,
) -> Iterator[Prompt]:
    """Training targets with ``least`` items before them, ``count`` (0: all) in random order; the same for a seed.

    With ``latest`` only so many of each user, those nearest to the held-out ones.
    """
    most = max(map(len, histories.values()), default=0) if latest is None else latest
    counts = {user: min(most, max(0, len(history) - least)) for user, history in histories.items()}
    targets = Numbered(counts)
    if not len(targets):
        raise GreamError(f"no user has more than min_history={least} training items: lower min_history")
    rng = Random(f"rl/{seed}/modes")
    for unit in shuffled(len(targets), min(count or len(targets), len(targets)), f"rl/{seed}"):
        user, number = targets[unit]
        mode: Mode = "reason" if rng.random() < reason_share else "direct"
        history = histories[user]
        place = len(history) - counts[user] + number
        yield Prompt(mode, user, history[:place], history[place])


def valid_prompts(workspace: Workspace, users: int, reason_share: float = 0.5, seed: int = 0) -> Iterator[Prompt]:
    """Validation users, ``users`` of them or with 0 all, each asked once in every mode that training uses."""
    cases = evaluation_cases(workspace, "valid")
    both: tuple[Mode, ...] = ("direct", "reason")
    modes = both[:1] if reason_share == 0 else both[1:] if reason_share == 1 else both
    for row in sorted(shuffled(len(cases), min(users or len(cases), len(cases)), f"rl/{seed}/valid")):
        for mode in modes:
            yield Prompt(mode, cases[row].user_id, cases[row].history, cases[row].target)


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
