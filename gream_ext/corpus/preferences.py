"""What an LLM wrote of users and items: preference summaries and search queries, in ``preferences.jsonl``."""

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gream_ext.workspace import Workspace, read_lines


@dataclass(frozen=True)
class Summary:
    """A user's taste in words, from the ``shown`` items before ``position`` of the training history."""

    position: int
    shown: int
    text: str


@dataclass(frozen=True)
class Preferences:
    """Summaries by user_id, queries by item_id; the template teacher writes those of everybody else."""

    summaries: Mapping[str, tuple[Summary, ...]] = field(default_factory=dict)
    queries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def preferences_path(workspace: Workspace) -> Path:
    return workspace.path("preferences.jsonl")


def load_preferences(workspace: Workspace, histories: Mapping[str, Sized]) -> Preferences:
    """What `gream corpus preferences` wrote; empty without it. `GreamError` for a damaged line or other histories."""
    path = preferences_path(workspace)
    summaries: dict[str, list[Summary]] = {}
    queries: dict[str, tuple[str, ...]] = {}

    def keep(row: Any) -> None:
        if row["kind"] == "query":
            queries[row["item_id"]] = tuple(str(query) for query in row["queries"])
            return
        summary = Summary(int(row["place"]), int(row["shown"]), str(row["text"]))
        if not 0 < summary.shown <= summary.position <= len(histories[row["user_id"]]):
            raise ValueError("it is of another history")
        summaries.setdefault(row["user_id"], []).append(summary)

    for _ in read_lines(path, "corpus preferences", keep) if path.exists() else ():
        pass
    return Preferences({user: tuple(own) for user, own in summaries.items()}, queries)
