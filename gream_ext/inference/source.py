"""Where a recommender comes from: a workspace, or a folder that `export` wrote for another machine."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from gream_ext.corpus.prompts import WINDOW, SystemPrompt
from gream_ext.errors import GreamError
from gream_ext.inference.titles import Titles
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import INTERACTIONS, Workspace, read_json, read_table

EXPORT_KIND, EXPORT_VERSION = "gream_export", 1
MODELS = ("srpo", "sft")
"""The models that can recommend, the last trained first."""

MADE_BY = {"base_model": "base-model", "sft": "sft", "srpo": "rl"}
"""The commands that make the models."""

TRIE = "trie.safetensors"
MODEL_FILES = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|model\.safetensors\.index)"
    r"\.json|merges\.txt|chat_template\.jinja|tokenizer\.model|model[\w.-]*\.safetensors"
)
"""What of a model folder is the model: no checkpoint, no log, nothing pickled."""


@dataclass(frozen=True)
class Source:
    """Everything a recommender is made of, without the model's weights in memory."""

    name: str
    model: Path
    index: ItemIndex
    titles: Titles
    system_prompt: SystemPrompt
    """The system prompt of reasoning mode that the model was trained with."""
    window: int
    trie: Path | None = None
    histories: Callable[[], Mapping[str, tuple[str, ...]]] = dict
    """Every known user's items, oldest first: all of them, for what comes next is asked now."""

    def __post_init__(self) -> None:
        missing = [item for item in self.index.item_ids if item not in self.titles]
        if missing:
            raise GreamError(f"item {missing[0]!r} of the item index stands not among the items: build the index again")
        if len(self.titles) > len(self.index):  # prepared, and not in the index yet
            object.__setattr__(self, "titles", self.titles.subset(self.index.item_ids))


def workspace_source(workspace: Workspace, model: str | None = None) -> Source:
    """The named model of a workspace, or the one that was trained last."""
    model = model or latest_model(workspace)
    folder = workspace.model(model)
    if not (folder / "config.json").exists():
        if model not in MADE_BY:
            raise GreamError(f"--model {model}: {folder} is no model folder; give sft or srpo")
        raise GreamError(f"{folder} is no model folder: run `gream {MADE_BY[model]}` first")
    trained_with = prompt_settings(workspace)
    return Source(
        name=model,
        model=folder,
        index=ItemIndex.load(workspace.item_index),
        titles=Titles.load(workspace.items),
        system_prompt=trained_with.get("system_prompt", "full"),
        window=trained_with.get("window", WINDOW),
        histories=lambda: all_histories(workspace),
    )


def latest_model(workspace: Workspace) -> str:
    """The name of the model that was trained last; `GreamError` when there is none."""
    for name in MODELS:
        if (workspace.model(name) / "config.json").exists():
            return name
    raise GreamError(f"{workspace.root} has no trained model: run `gream sft` first")


def export_source(folder: Path) -> Source:
    """What `export` wrote, after checking that it is whole (`read_about`)."""
    about = read_about(folder)
    return Source(
        name=f"{about['model']} of {folder.name}",
        model=folder / "model",
        index=ItemIndex.load(folder / "item_index.parquet"),
        titles=Titles.load(folder / "items.parquet"),
        system_prompt=about["system_prompt"],
        window=about["window"],
        trie=folder / TRIE,
    )


def find_source(workspace: Workspace, model: str | None, export: str | None) -> Source:
    """The folder ``export`` where one is named, the workspace otherwise."""
    return export_source(Path(export)) if export else workspace_source(workspace, model)


TRAINED_WITH: Mapping[str, Callable[[Any], bool]] = {
    "system_prompt": lambda value: value in get_args(SystemPrompt),
    "window": lambda value: type(value) is int and value >= 1,
}
"""What a prompt depends on, and whether a value of it can be right."""


def prompt_settings(workspace: Workspace) -> dict[str, Any]:
    """``system_prompt`` and ``window`` that the reasoning data was written with, from its stage's record."""
    path = workspace.path("stages", "corpus-reason.json")
    settings = read_json(path, "corpus reason").get("settings", {}) if path.exists() else {}
    found = {name: settings[name] for name in TRAINED_WITH if name in settings} if isinstance(settings, dict) else None
    if found is None or not all(TRAINED_WITH[name](value) for name, value in found.items()):
        raise GreamError(f"{path} is damaged (settings {settings!r:.80}): run `gream corpus reason` again")
    return found


def all_histories(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """Item ids of each user, oldest first, the last interactions included."""
    frame = read_table(workspace.interactions, INTERACTIONS, "prepare").sort("position", maintain_order=True)
    grouped = frame.group_by("user_id", maintain_order=True).agg("item_id")
    return {user: tuple(items) for user, items in zip(grouped["user_id"], grouped["item_id"].to_list(), strict=True)}


ABOUT: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str) and value != "",
    **TRAINED_WITH,
    "files": lambda value: isinstance(value, dict),
}
"""What of ``gream.json`` is needed, and whether a value of it can be right."""


def read_about(folder: Path) -> dict[str, Any]:
    """``gream.json`` of an export, after checking what it says and that every file is as it was written.

    Each file is read once for its SHA-256, the weights too. `GreamError` names the file that is missing or damaged,
    and of ``gream.json`` the key.
    """
    path = folder / "gream.json"
    if not path.is_file():
        raise GreamError(f"{path} is missing: {folder} is no folder that `gream export` wrote")
    about = read_json(path, "export")
    kind, version = about.get("kind"), about.get("version")
    if kind != EXPORT_KIND or version != EXPORT_VERSION:
        raise GreamError(f"{path} is {kind!r} version {version}, this gream_ext reads {EXPORT_KIND!r} {EXPORT_VERSION}")
    for name, can_be_right in ABOUT.items():
        if name not in about:
            raise GreamError(f"{path} is damaged (it has no {name}): export again")
        if not can_be_right(about[name]):
            raise GreamError(f"{path} is damaged ({name} is {about[name]!r:.80}): export again")
    check_files(folder, about["files"])
    return about


def check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """`GreamError` unless the export holds each of ``files`` with its size and hash, and uses no other file."""
    model = [f"model/{file.name}" for file in sorted(folder.glob("model/*")) if MODEL_FILES.fullmatch(file.name)]
    for name in ("item_index.parquet", "items.parquet", TRIE, "model/config.json", *model):
        if name not in files:
            raise GreamError(f"{folder / 'gream.json'} is damaged (files has no {name}): export again")
    for name, one in files.items():
        size, digest = (one.get("bytes"), one.get("sha256")) if isinstance(one, dict) else (None, None)
        if type(size) is not int or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise GreamError(f"{folder / 'gream.json'} is damaged (files: {name} is {one!r:.80}): export again")
        file = folder / name
        if not file.is_file():
            raise GreamError(f"{file} is missing: copy the whole folder that `gream export` wrote")
        if file.stat().st_size != size:
            raise GreamError(f"{file} has {file.stat().st_size} bytes, not {size}: copy it again")
    for name, one in files.items():
        if sha256(folder / name) != one["sha256"]:
            raise GreamError(f"{folder / name} is damaged (its sha256 is not that of gream.json): copy it again")


def sha256(path: Path) -> str:
    """The hash of a file as 64 hexadecimal digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_items(titles: Titles, item_ids: Sequence[str]) -> tuple[str, ...]:
    """The items as they are; `GreamError` names the first unknown one and what it may have been meant to be."""
    for item in item_ids:
        if item not in titles:
            near = ", ".join(f"{one} ({titles.title(one)})" for one in titles.search(item, 3))
            hint = f"; by that title there are {near}" if near else ""
            raise GreamError(f"item {item!r} is not in the catalogue{hint}: `--search WORDS` finds items by title")
    return tuple(item_ids)
