"""How a model is asked: ``gream_model.json`` in its folder, written by the stage that trains it.

The chat template that turns messages into tokens stands with the tokenizer, in the same folder.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.corpus.prompts import SystemPrompt
from gream_ext.errors import GreamError
from gream_ext.workspace import read_json, write_json

FILE = "gream_model.json"
RECORD = "gream_base_model.json"
"""Beside it in a base model: what made it."""
KIND, VERSION = "gream_model", 1
DEFAULT_TEMPLATE = "qwen3_nothink"
"""LLaMA-Factory's template of the shipped recipes: ChatML without a default system message."""


@dataclass(frozen=True)
class ModelFormat:
    """What a model must be asked with, and what made it."""

    prompts: PromptSettings = field(default_factory=PromptSettings)
    template: str | None = None
    """LLaMA-Factory's template that trains it; None where it is not known."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of Python, this package and the frameworks that trained it."""


def read_format(folder: Path) -> ModelFormat:
    """How the model of ``folder`` is asked; `GreamError` where the folder does not say."""
    path = folder / FILE
    if not (folder / "config.json").exists():
        raise GreamError(f"{folder} is no model folder (it has no config.json): train or name a model first")
    if not path.exists():
        raise GreamError(
            f"{path} is missing, which says how the model is asked: `gream upgrade` writes it for a model that "
            "LLaMA-Factory or Verl trained without `gream`"
        )
    found = read_json(path, "upgrade")
    if found.get("kind") != KIND or found.get("version") != VERSION:
        raise GreamError(
            f"{path} is {found.get('kind')!r} version {found.get('version')}, this gream_ext reads {KIND!r} {VERSION}"
        )
    versions: Any = found.get("versions")
    return ModelFormat(
        PromptSettings.from_json(found.get("prompts"), str(path)),
        found.get("template"),
        versions if isinstance(versions, dict) else {},
    )


def read_prompts(folder: Path, window: int | None = None, system_prompt: SystemPrompt | None = None) -> PromptSettings:
    """The prompts of the model in ``folder`` as it was trained, with what is given otherwise."""
    found = read_format(folder).prompts
    if window is not None:
        found = replace(found, direct_window=window, reason_window=window)
    return found if system_prompt is None else replace(found, system_prompt=system_prompt)


def write_format(folder: Path, how: ModelFormat) -> None:
    write_json(folder / FILE, {"kind": KIND, "version": VERSION, **asdict(how)})
