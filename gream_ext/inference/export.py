"""A folder that recommends on another machine: the model, the item index and its trie, the titles and a model card.

What is in it and how it is read again stands in `gream_ext.inference.export_format`. No user and no interaction leaves
the workspace.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from gream_ext import __version__
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import Evaluations
from gream_ext.inference.card import Said, model_card, origin
from gream_ext.inference.export_format import (
    KIND,
    MANIFEST,
    NEEDED,
    TRIE,
    VERSION,
    describe_files,
    model_files,
    read_about,
    sha256,
)
from gream_ext.inference.loading import load_tokenizer
from gream_ext.inference.source import Source, workspace_source
from gream_ext.workspace import ITEMS, Workspace, read_json, read_table, whole, write_json, write_table

NOTHING_SAID = Said()


def export(workspace: Workspace, model: str | None, folder: Path, new: bool, said: Said = NOTHING_SAID) -> None:
    """Write the folder and say its size; with ``new`` it must not hold anything yet.

    Raises:
        GreamError: there is no model, or the folder holds something.
    """
    source = workspace_source(workspace, model)
    if new and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if is_written(workspace, source, folder, said):
            print(f"export: {folder} is up to date")
            return
        raise GreamError(f"--output {folder} exists: name another folder, or remove it")
    write_export(workspace, source, folder, said)
    print(f"export: {folder}, {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB")


def write_export(workspace: Workspace, source: Source, folder: Path, said: Said = NOTHING_SAID) -> None:
    """Write the folder whole."""
    chosen = model_files(source.model)
    tokenizer = load_tokenizer(source.model)
    with whole(folder) as draft:
        (draft / "model").mkdir(parents=True)
        for file in chosen:
            shutil.copyfile(file, draft / "model" / file.name)
        write_catalogue(workspace, source, draft)
        ItemTrie.from_index(source.index, tokenizer).save(draft / TRIE)
        files = describe_files(draft)
        for name in NEEDED:
            if name not in files:
                raise GreamError(f"{source.model} has no {Path(name).name}, which an export needs: train it again")
        facts = gather_facts(workspace, source, said)
        (draft / "README.md").write_text(
            model_card(source, facts, [*files, MANIFEST], said.repository), encoding="utf-8"
        )
        write_json(draft / MANIFEST, {**facts, "files": files})


def is_written(workspace: Workspace, source: Source, folder: Path, said: Said) -> bool:
    """Whether ``folder`` is an export of this model as it stands, figures included."""
    try:
        about = read_about(folder / MANIFEST)
    except GreamError:
        return False
    hashes = {f"model/{file.name}": sha256(file) for file in model_files(source.model)}
    with TemporaryDirectory() as made:
        hashes |= {file.name: sha256(file) for file in write_catalogue(workspace, source, Path(made))}
    known = {
        name: isinstance(one, dict) and one.get("sha256") for name, one in about.pop("files").items() if name != TRIE
    }
    return known == hashes and about == json.loads(json.dumps(gather_facts(workspace, source, said)))


def write_catalogue(workspace: Workspace, source: Source, folder: Path) -> list[Path]:
    """The item index, and the items with titles, brands and categories; their other texts stay at home."""
    index, items = folder / "item_index.parquet", folder / "items.parquet"
    source.index.save(index)
    frame = read_table(workspace.items, ITEMS, "prepare").with_columns(
        description=pl.lit(None, pl.String), attributes=pl.lit([], pl.List(pl.String)), text=pl.col("title")
    )
    write_table(frame, items, ITEMS)
    return [index, items]


def gather_facts(workspace: Workspace, source: Source, said: Said) -> dict[str, Any]:
    """What ``gream.json`` says beside the files."""
    return {
        "kind": KIND,
        "version": VERSION,
        "gream_ext": __version__,
        "model": source.name,
        "repeats": source.repeats,
        "items": len(source.index),
        "levels": source.index.length,
        "dataset": read_json(workspace.statistics, "prepare") if workspace.statistics.exists() else None,
        "figures": Evaluations(workspace).by_mode(source.name),
        "versions": dict(source.how.versions),
        "origin": origin(workspace, said),
    }
