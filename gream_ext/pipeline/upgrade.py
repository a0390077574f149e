"""Command ``upgrade``: a workspace of an earlier version gets what this one expects, and nothing is trained again.

Before 0.2 a model's folder did not say how the model is asked; that stood in the records of the stages that wrote the
corpus. Records whose files are as they were stay true, and get the settings that their stages did not have yet.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gream_ext.base_model.chat_format import can_compare, compare, set_chat_template
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE, FILE, ModelFormat, write_format
from gream_ext.corpus.prompt_settings import read_prompt_settings, sidecar, write_sidecar
from gream_ext.corpus.prompts import WINDOW, SystemPrompt
from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.errors import GreamError
from gream_ext.pipeline.record import digest, fingerprint, read_record, record_path
from gream_ext.pipeline.settings import build, plain
from gream_ext.pipeline.table import find
from gream_ext.plugins.recipes import find_recipe
from gream_ext.stage import Stage
from gream_ext.workspace import Workspace, write_json

MODELS = ("base_model", "sft", "srpo")
ANEW = ("evaluate", "report")
"""Stages that do otherwise now with the settings that they did not have: what they wrote has to be made again."""


@dataclass(frozen=True)
class UpgradeSettings:
    """Nothing to set."""


def run(workspace: Workspace, settings: UpgradeSettings) -> None:
    """Write what is missing, say it, and let the records know."""
    rows = {kind: path for kind, path in (("align", workspace.align), ("reason", workspace.reason)) if path.exists()}
    models = [workspace.model(name) for name in MODELS if (workspace.model(name) / "config.json").exists()]
    touched = [*models, workspace.corpus]
    before = {path: digest(fingerprint(path)) for path in touched}
    written = []
    for kind, path in rows.items():
        if not sidecar(path).exists():
            write_sidecar(path, *told_settings(workspace, kind))
            written.append(sidecar(path))
    for folder in models:
        if not (folder / FILE).exists():
            describe(workspace, folder)
            written.append(folder / FILE)
    for path in written:
        print(f"upgrade: wrote {path}")
    if not written:
        print(f"upgrade: {workspace.root} needs nothing")
        return
    for record in sorted(workspace.path("stages").glob("*.json")):
        renew(workspace, record.stem, before, rows, written)


def told_settings(workspace: Workspace, kind: str) -> tuple[int, Words, SystemPrompt | None]:
    """How the rows of a kind ask, by the record of their stage; `GreamError` where there is none."""
    record = read_record(workspace, f"corpus {kind}")
    if record is None:
        raise GreamError(
            f"{record_path(workspace, f'corpus {kind}')} is missing or damaged, and nothing else says how "
            f"{kind}.jsonl asks: run `gream corpus {kind}` again"
        )
    known = record.get("settings", {})
    return known.get("window", WINDOW), PRODUCT, known.get("system_prompt", "full") if kind == "reason" else None


def describe(workspace: Workspace, folder: Path) -> None:
    """Write how the model of ``folder`` is asked, with the chat template that its training wrote."""
    template = recipe_template(workspace)
    if folder.name == "base_model":
        write_format(folder, ModelFormat(template=template))
        return
    stage = {"sft": "sft", "srpo": "rl"}[folder.name]
    versions = (read_record(workspace, stage) or {}).get("versions", {})
    if can_compare() and workspace.model("base_model").exists():
        found = compare(workspace.model("base_model"), template)
        if found.chat_template is not None:
            set_chat_template(folder, found.chat_template)
            print(f"upgrade: {folder.name}: {found.told}")
    write_format(folder, ModelFormat(read_prompt_settings(workspace), template, versions))


def recipe_template(workspace: Workspace) -> str:
    """The template of the recipe that ``sft`` was trained with, as its record names it."""
    known = (read_record(workspace, "sft") or {}).get("settings", {})
    try:
        recipe = yaml.safe_load(find_recipe(known.get("recipe", "sft_curriculum")).read_text(encoding="utf-8"))
    except (GreamError, OSError, yaml.YAMLError):
        recipe = {}
    return str({**recipe, **known.get("overrides", {})}.get("template") or DEFAULT_TEMPLATE)


def renew(
    workspace: Workspace,
    label: str,
    before: Mapping[Path, str | None],
    rows: Mapping[str, Path],
    written: Sequence[Path],
) -> None:
    """Let a record that was true of the files before, which ``written`` has come to, be true of them now."""
    record = read_record(workspace, label)
    if record is None:
        return
    earlier = json.dumps(record)
    for side in ("inputs", "outputs"):
        for path, old in before.items():
            name = path.relative_to(workspace.root).as_posix()
            entry = record.get(side, {}).get(name)
            if entry is not None and digest(entry) == old:
                record[side][name] = fingerprint(path)
    kind = record.get("stage", "").removeprefix("corpus ")
    if kind in rows:
        path = sidecar(rows[kind])
        record["outputs"].setdefault(path.relative_to(workspace.root).as_posix(), fingerprint(path))
    if record.get("stage") not in ANEW:
        complete(workspace, record, written)
    if json.dumps(record) != earlier:
        write_json(record_path(workspace, label), record)


def complete(workspace: Workspace, record: dict[str, Any], written: Sequence[Path]) -> None:
    """The record of a stage as this version writes it: settings that are new at their defaults, inputs by their files.

    An input that the record lacks is added where it was ``written`` now or lies in a folder that the record has.
    """
    try:
        stage = find(str(record.get("stage"))).load()
        settings = build(stage.settings, record.get("settings") or {}, str(record.get("stage")))
        paths = stage.reads(workspace, settings)
    except (GreamError, ImportError):
        return  # of a stage or setting that is no more
    record["settings"] = plain(settings)
    inputs = record.get("inputs", {})
    for path in (one for one in paths if one.is_relative_to(workspace.root)):
        name = path.relative_to(workspace.root).as_posix()
        folders = {
            parent.relative_to(workspace.root).as_posix() for parent in path.parents[: len(Path(name).parts) - 1]
        }
        whole = [folder for folder in folders & inputs.keys() if holds(workspace, folder, inputs)]
        if name not in inputs and (path in written or whole):
            inputs[name] = fingerprint(path)
    reading = {path for one in paths for path in one.parents}
    for name in [name for name in inputs if workspace.path(name) in reading and holds(workspace, name, inputs)]:
        del inputs[name]  # a folder, of which the stage now names the files


def holds(workspace: Workspace, name: str, inputs: Mapping[str, Any]) -> bool:
    """Whether an input is as the record says."""
    return digest(fingerprint(workspace.path(name), inputs[name])) == digest(inputs[name])


STAGE = Stage(name="upgrade", settings=UpgradeSettings, run=run)
