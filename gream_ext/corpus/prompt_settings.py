"""How a model is asked that was trained on a corpus. Each corpus file carries its part, in a file beside it.

corpus/align.meta.json   window and words of direct mode
corpus/reason.meta.json  window, words and system prompt of reasoning mode
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
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
        return cls(
            _window(value.get("direct_window"), where),
            _window(value.get("reason_window"), where),
            _system_prompt(value.get("system_prompt"), where),
            Words.of(value.get("words"), where),
        )


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
    if align and reason and align["words"] != reason["words"]:
        raise GreamError(
            f"{sidecar(workspace.align)} says {json.dumps(asdict(align['words']))} and {sidecar(workspace.reason)} "
            f"{json.dumps(asdict(reason['words']))}: write one of the corpora again with the other's --domain"
        )
    direct, reasoned = align or reason, reason or align
    if direct is None or reasoned is None:
        return PromptSettings()
    return PromptSettings(
        direct["window"], reasoned["window"], reasoned.get("system_prompt") or "full", reasoned["words"]
    )


def _read(rows: Path) -> dict[str, Any] | None:
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
    found = {"window": _window(metadata.get("window"), path), "words": Words.of(metadata.get("words"), str(path))}
    if "system_prompt" in metadata:
        found["system_prompt"] = _system_prompt(metadata["system_prompt"], path)
    return found


def _window(value: Any, where: Path | str) -> int:
    if type(value) is not int or value < 1:
        raise GreamError(f"{where} is damaged (window is {value!r:.80})")
    return value


def _system_prompt(value: Any, where: Path | str) -> SystemPrompt:
    if value not in get_args(SystemPrompt):
        raise GreamError(f"{where} is damaged (system_prompt is {value!r:.80})")
    return value
