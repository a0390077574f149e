"""How a model is asked that was trained on a corpus. Each corpus file carries its part, in a file beside it.

corpus/align.meta.json   window and words of direct mode
corpus/reason.meta.json  window, words and system prompt of reasoning mode
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from gream_ext import __version__
from gream_ext.corpus.prompts import WINDOW, SystemPrompt
from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace, read_json, write_json

KIND, VERSION = "corpus_prompts", 1


@dataclass(frozen=True)
class PromptSettings:
    """Everything that a prompt of either mode depends on beside the history."""

    direct_window: int = WINDOW
    reason_window: int = WINDOW
    system_prompt: SystemPrompt = "full"
    words: Words = PRODUCT

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any, where: str) -> "PromptSettings":
        """What `as_json` gave; `GreamError` names ``where`` and the key."""
        if not isinstance(value, Mapping):
            raise GreamError(f"{where} is damaged: it has no prompt settings")
        given: dict[str, Any] = {name: value.get(name) for name in ("direct_window", "reason_window", "system_prompt")}
        for name, one in given.items():
            right = one in get_args(SystemPrompt) if name == "system_prompt" else type(one) is int and one >= 1
            if not right:
                raise GreamError(f"{where} is damaged ({name} is {one!r:.80})")
        return cls(**given, words=Words.of(value.get("words"), where))


def sidecar(rows: Path) -> Path:
    """The file beside ``align.jsonl`` or ``reason.jsonl`` that says how its prompts were written."""
    return rows.with_suffix(".meta.json")


def write_sidecar(rows: Path, window: int, words: Words, system_prompt: SystemPrompt | None = None) -> None:
    metadata = {"kind": KIND, "version": VERSION, "gream_ext": __version__, "window": window, "words": asdict(words)}
    write_json(sidecar(rows), metadata if system_prompt is None else {**metadata, "system_prompt": system_prompt})


def read_prompt_settings(workspace: Workspace) -> PromptSettings:
    """How a model is asked that is trained on this workspace's corpus.

    A mode without data is asked as the other one is; without any corpus the defaults hold. `GreamError` for data
    without its ``.meta.json``, a damaged one, and for two that speak of different things.
    """
    align, reason = (_read(path) for path in (workspace.align, workspace.reason))
    if align and reason and align.words != reason.words:
        raise GreamError(
            f"{sidecar(workspace.align)} says {json.dumps(asdict(align.words))} and {sidecar(workspace.reason)} "
            f"{json.dumps(asdict(reason.words))}: write one of the corpora again with the other's --domain"
        )
    if align and reason:
        return replace(reason, direct_window=align.direct_window)
    return align or reason or PromptSettings()


def _read(rows: Path) -> PromptSettings | None:
    """What stands beside the rows, for both modes alike; None without rows."""
    if not rows.exists():
        return None
    path, command = sidecar(rows), f"corpus {rows.stem}"
    if not path.exists():
        example = {"kind": KIND, "version": VERSION, "window": WINDOW, "words": asdict(PRODUCT)}
        raise GreamError(
            f"{path} is missing, which says how a model of these rows is asked: run `gream {command}` again, or beside "
            f"rows of your own write {json.dumps(example)}"
        )
    metadata = read_json(path, command)
    if metadata.get("kind") != KIND or metadata.get("version") != VERSION:
        raise GreamError(f"{path} is not a file of kind {KIND!r}, version {VERSION}: run `gream {command}` again")
    window = metadata.get("window")
    both = {"direct_window": window, "reason_window": window, "system_prompt": "full"}
    return PromptSettings.from_json({**both, **metadata}, str(path))
