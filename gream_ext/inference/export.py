"""Stage ``export``: a folder that recommends on another machine, and loading it there.

The folder holds the model with its tokenizer, the item index and its trie, the titles, a model card and ``gream.json``,
which names every file but the card with its size and hash; loading checks them. No user and no interaction leaves the
workspace.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from gream_ext import __version__
from gream_ext.errors import GreamError
from gream_ext.evaluation.files import MODES, Evaluations, stem
from gream_ext.evaluation.files import files as files_of
from gream_ext.inference.source import (
    EXPORT_KIND,
    EXPORT_VERSION,
    MADE_BY,
    MODEL_FILES,
    TRIE,
    Source,
    export_source,
    latest_model,
    sha256,
    workspace_source,
)
from gream_ext.stage import Stage, option
from gream_ext.workspace import ITEMS, Workspace, read_json, read_table, whole, write_json, write_table

if TYPE_CHECKING:
    from gream_ext.inference.model import ModelRecommender


@dataclass(frozen=True)
class ExportSettings:
    model: str | None = option(None, help="sft or srpo; without it the one that was trained last")
    output: str | None = option(None, help="folder to write, which must not exist; without it export/ in the workspace")


def run(workspace: Workspace, settings: ExportSettings) -> None:
    """Write the folder and say its size; `GreamError` when ``output`` holds something or there is no model."""
    folder = output_folder(workspace, settings)
    if settings.output and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GreamError(f"--output {folder} exists: name another folder, or remove it")
    source = workspace_source(workspace, settings.model)
    write_export(workspace, source, folder)
    print(f"export: {folder}, {sum(file.stat().st_size for file in folder.rglob('*') if file.is_file()) / 1e6:.1f} MB")


def output_folder(workspace: Workspace, settings: ExportSettings) -> Path:
    return Path(settings.output) if settings.output else workspace.path("export")


def load_export(folder: Path, device: str = "cpu") -> "ModelRecommender":
    """The recommender of a folder that `export` wrote; `GreamError` names a file that is missing or damaged.

    Every file is read for its hash first, the weights too.
    """
    from gream_ext.inference.model import load

    return load(export_source(folder), device)


def write_export(workspace: Workspace, source: Source, folder: Path) -> None:
    """Write the folder whole."""
    from transformers import AutoTokenizer

    from gream_ext.decoding.trie import ItemTrie

    chosen = [file for file in sorted(source.model.iterdir()) if MODEL_FILES.fullmatch(file.name)]
    if not any(file.suffix == ".safetensors" for file in chosen):
        raise GreamError(f"{source.model} has no weights in safetensors: save the model in that format")
    tokenizer = AutoTokenizer.from_pretrained(source.model)
    with whole(folder) as draft:
        (draft / "model").mkdir(parents=True)
        for file in chosen:
            shutil.copyfile(file, draft / "model" / file.name)
        source.index.save(draft / "item_index.parquet")
        ItemTrie.from_index(source.index, tokenizer).save(draft / TRIE)
        write_titles(workspace, draft / "items.parquet")
        names = [file.relative_to(draft).as_posix() for file in sorted(draft.rglob("*")) if file.is_file()]
        hashes = {name: sha256(draft / name) for name in names}
        about = {name: {"bytes": (draft / name).stat().st_size, "sha256": hashes[name]} for name in names}
        facts = gather_facts(workspace, source)
        (draft / "README.md").write_text(model_card(source, facts, [*names, "gream.json"]), encoding="utf-8")
        write_json(draft / "gream.json", {**facts, "files": about})


def write_titles(workspace: Workspace, path: Path) -> None:
    """The items with titles, brands and categories; descriptions and other texts stay at home."""
    import polars as pl

    frame = read_table(workspace.items, ITEMS, "prepare").with_columns(
        description=pl.lit(None, pl.String), attributes=pl.lit([], pl.List(pl.String)), text=pl.col("title")
    )
    write_table(frame, path, ITEMS)


def gather_facts(workspace: Workspace, source: Source) -> dict[str, Any]:
    """What ``gream.json`` says beside the files."""
    made = training_record(workspace, source.name)
    return {
        "kind": EXPORT_KIND,
        "version": EXPORT_VERSION,
        "gream_ext": __version__,
        "model": source.name,
        "system_prompt": source.system_prompt,
        "window": source.window,
        "items": len(source.index),
        "levels": source.index.length,
        "dataset": read_json(workspace.statistics, "prepare") if workspace.statistics.exists() else None,
        "figures": Evaluations(workspace).by_mode(source.name),
        "versions": read_json(made, made.stem).get("versions") if made.exists() else None,
    }


def training_record(workspace: Workspace, model: str) -> Path:
    """The record of the stage that made the model."""
    return workspace.path("stages", f"{MADE_BY.get(model, model)}.json")


def model_card(source: Source, facts: Mapping[str, Any], names: Sequence[str]) -> str:
    """README.md of the folder."""
    figures = [
        f"| {mode} | {metric} | {value:.4f} |"
        for mode, metrics in (facts["figures"] or {}).items()
        for metric, value in metrics.items()
        if isinstance(value, float)
    ]
    versions = ", ".join(f"{name} {version}" for name, version in (facts["versions"] or {}).items())
    slots = {
        "title": f"Recommender for {facts['items']:,} items",
        "version": __version__,
        "items": f"{facts['items']:,}",
        "window": facts["window"],
        "files": "\n".join(f"- `{name}`" for name in names),
        "figures": "\n".join(["| mode | metric | test |", "|---|---|---|", *figures])
        if figures
        else "Not evaluated when this folder was written.",
        "made": versions or f"gream-ext {__version__}",
    }
    template = files("gream_ext.inference").joinpath("templates", "model_card.md").read_text(encoding="utf-8")
    return Template(template).substitute(slots)


def _reads(workspace: Workspace, settings: ExportSettings) -> list[Path]:
    """Beside the model its evaluations, also before they are there: a later one makes the export out of date."""
    model = settings.model or latest_model(workspace)
    return [
        workspace.model(model),
        workspace.item_index,
        workspace.items,
        workspace.statistics,
        training_record(workspace, model),
        *(files_of(stem(workspace, model, mode, "test", False))[1] for mode in MODES),
    ]


STAGE = Stage(
    name="export",
    settings=ExportSettings,
    run=run,
    reads=_reads,
    writes=lambda workspace, settings: [output_folder(workspace, settings)],
)
