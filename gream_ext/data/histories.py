"""Users' histories, by what they may be used for.

Training reads `training_histories` and nothing else, so that a validation or test
interaction has no way into anything that is trained or fitted.
"""

from dataclasses import dataclass
from typing import Literal

import polars as pl

from gream_ext.workspace import INTERACTIONS, Workspace, read_table

Split = Literal["valid", "test"]


@dataclass(frozen=True)
class Case:
    """One question of an evaluation: what comes after ``history`` (oldest first)?"""

    user_id: str
    history: tuple[str, ...]
    target: str


def training_histories(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """Item ids of each user's training interactions, oldest first."""
    return _by_user(_interactions(workspace).filter(pl.col("split") == "train"))


def evaluation_cases(workspace: Workspace, split: Split) -> list[Case]:
    """One case a user that has one in ``split``; its history is all that stands before the target."""
    interactions = _interactions(workspace)
    targets = interactions.filter(pl.col("split") == split)
    before = interactions.join(targets.select("user_id", target="position"), on="user_id", maintain_order="left")
    histories = _by_user(before.filter(pl.col("position") < pl.col("target")))
    return [
        Case(user, histories.get(user, ()), target)
        for user, target in zip(targets["user_id"].to_list(), targets["item_id"].to_list(), strict=True)
    ]


def _interactions(workspace: Workspace) -> pl.DataFrame:
    return read_table(workspace.interactions, INTERACTIONS, "prepare")


def _by_user(interactions: pl.DataFrame) -> dict[str, tuple[str, ...]]:
    grouped = interactions.sort("position", maintain_order=True).group_by("user_id", maintain_order=True).agg("item_id")
    return {
        user: tuple(items)
        for user, items in zip(grouped["user_id"].to_list(), grouped["item_id"].to_list(), strict=True)
    }
