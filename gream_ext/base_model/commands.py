"""What ``base-model`` does."""

from dataclasses import asdict, fields
from pathlib import Path

from gream_ext.base_model.build import New, write_base_model
from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.base_model.scratch import Shape, make_small
from gream_ext.base_model.stages import BaseModelSettings, lesson_rows
from gream_ext.workspace import Workspace


def run(workspace: Workspace, settings: BaseModelSettings) -> None:
    told = asdict(settings)
    new = New(settings.initialisation, settings.seed, settings.equal_length)
    if settings.base_model is None:
        shape = Shape(**{field.name: told[field.name] for field in fields(Shape)})
        start = make_small(workspace, lesson_rows(workspace), shape, settings.vocabulary_size, settings.across_words)
    else:
        start = load_pretrained(settings.base_model, settings.trust_remote_code)
        told["base_model"] = Path(settings.base_model).name  # no path of this machine
    write_base_model(workspace, *start, told, new, settings.template, settings.dtype)
