"""What an LLM wrote of users and items: preference summaries and search queries, in ``preferences.jsonl``."""

import json
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace


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
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
        try:
            row = json.loads(line)
            if row["kind"] == "query":
                queries[row["item_id"]] = tuple(str(query) for query in row["queries"])
            else:
                summary = Summary(int(row["place"]), int(row["shown"]), str(row["text"]))
                if not 0 < summary.shown <= summary.position <= len(histories[row["user_id"]]):
                    raise ValueError("its history is another one now")
                summaries.setdefault(row["user_id"], []).append(summary)
        except (ValueError, KeyError, TypeError) as error:
            raise GreamError(
                f"{path}, line {number} is damaged or of other data ({error!r}): run `gream corpus preferences` again"
            ) from None
    return Preferences({user: tuple(own) for user, own in summaries.items()}, queries)
