"""The folder that `export` writes: what is in it, and reading it as if somebody else had made it.

``gream.json`` names every file but the card with its size and SHA-256. Nothing else is ever opened, no weights but
safetensors, and no code: a folder with more in ``model/`` than it names is refused.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gream_ext.base_model.model_format import FILE, ModelFormat, read_format
from gream_ext.errors import GreamError
from gream_ext.workspace import read_json

KIND, VERSION = "gream_export", 2
MANIFEST, TRIE = "gream.json", "trie.safetensors"
MODEL_FILES = re.compile(
    r"(gream_model|config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|model\.safetensors\.index)"
    r"\.json|merges\.txt|chat_template\.jinja|tokenizer\.model|model[\w.-]*\.safetensors"
)
"""What of a model folder is the model: no checkpoint, no log, no adapter, nothing pickled, no code."""
NEEDED = ("item_index.parquet", "items.parquet", TRIE, "model/config.json", "model/tokenizer.json", f"model/{FILE}")
CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "model": lambda value: isinstance(value, str) and value != "",
    "files": lambda value: isinstance(value, dict),
}


def model_files(folder: Path) -> list[Path]:
    """What of a trained model's folder goes into an export; `GreamError` where there are no weights in safetensors."""
    chosen = [file for file in sorted(folder.iterdir()) if MODEL_FILES.fullmatch(file.name)]
    if not any(file.suffix == ".safetensors" for file in chosen):
        raise GreamError(f"{folder} has no weights in safetensors: save the model in that format")
    return chosen


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Each file of the folder with its ``bytes`` and ``sha256``, by its path in it."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {name: {"bytes": file.stat().st_size, "sha256": sha256(file)} for name, file in files.items()}


def read_manifest(folder: Path) -> tuple[dict[str, Any], ModelFormat]:
    """``gream.json`` and how the model is asked, after checking that the folder is what it says.

    Each file is read once for its SHA-256, the weights too. `GreamError` names the file that is missing, damaged or
    not named, and of ``gream.json`` the key.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise GreamError(f"{path} is missing: {folder} is no folder that `gream export` wrote")
    about = read_about(path)
    for file in sorted((folder / "model").glob("*")):
        if f"model/{file.name}" not in about["files"]:
            raise GreamError(f"{file} is not named in {path}, so nobody knows whose it is: remove it, or export again")
    for name, one in about["files"].items():
        _check_file(folder, name, one)
    _check_shards(folder, about["files"])
    return about, read_format(folder / "model")


def read_about(path: Path) -> dict[str, Any]:
    """What ``gream.json`` says, after checking that it can be right and names files of an export alone."""
    about = read_json(path, "export")
    kind, version = about.get("kind"), about.get("version")
    if kind != KIND or version != VERSION:
        raise GreamError(f"{path} is {kind!r} version {version}, this gream_ext reads {KIND!r} {VERSION}: export again")
    for name, can_be_right in CHECKS.items():
        if name not in about:
            raise GreamError(f"{path} is damaged (it has no {name}): export again")
        if not can_be_right(about[name]):
            raise GreamError(f"{path} is damaged ({name} is {about[name]!r:.80}): export again")
    _check_names(path, about["files"])
    return about


def _check_names(path: Path, files: Mapping[str, Any]) -> None:
    for name in NEEDED:
        if name not in files:
            raise GreamError(f"{path} is damaged (files has no {name}): export again")
    if not any(name.endswith(".safetensors") for name in files if name.startswith("model/")):
        raise GreamError(f"{path} is damaged (files has no weights, model/*.safetensors): export again")
    for name in files:
        if name not in NEEDED and not (name.startswith("model/") and MODEL_FILES.fullmatch(name[len("model/") :])):
            raise GreamError(f"{path} is damaged (files: {name!r:.80} is no file of an export): export again")


def _check_file(folder: Path, name: str, one: Any) -> None:
    size, digest = (one.get("bytes"), one.get("sha256")) if isinstance(one, dict) else (None, None)
    if type(size) is not int or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise GreamError(f"{folder / MANIFEST} is damaged (files: {name} is {one!r:.80}): export again")
    file = folder / name
    if not file.is_file():
        raise GreamError(f"{file} is missing: copy the whole folder that `gream export` wrote")
    if file.stat().st_size != size:
        raise GreamError(f"{file} has {file.stat().st_size} bytes, not {size}: copy it again")
    if sha256(file) != digest:
        raise GreamError(f"{file} is damaged (its sha256 is not that of {MANIFEST}): copy it again")


def _check_shards(folder: Path, files: Mapping[str, Any]) -> None:
    """The parts that ``model.safetensors.index.json`` names are files of the export, none elsewhere."""
    name = "model/model.safetensors.index.json"
    parts = read_json(folder / name, "export").get("weight_map") if name in files else {}
    for part in set(parts.values()) if isinstance(parts, dict) else {None}:
        if f"model/{part}" not in files:
            raise GreamError(f"{folder / name} names {part!r}, which is no file of the export: export again")


def sha256(path: Path) -> str:
    """The hash of a file as 64 hexadecimal digits, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
