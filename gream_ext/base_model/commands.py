"""What ``base-model`` does."""

from dataclasses import asdict, fields
from pathlib import Path

from gream_ext.base_model.build import write_base_model
from gream_ext.base_model.pretrained import load_pretrained
from gream_ext.base_model.scratch import Shape, make_small
from gream_ext.base_model.stages import BaseModelSettings, lesson_rows
from gream_ext.hub import is_of_hub
from gream_ext.workspace import Workspace


def run(workspace: Workspace, settings: BaseModelSettings) -> None:
    told = asdict(settings)
    if settings.base_model is None:
        shape = Shape(**{field.name: told[field.name] for field in fields(Shape)})
        start = make_small(workspace, lesson_rows(workspace), shape, settings.vocabulary_size, settings.across_words)
    else:
        start = load_pretrained(settings.base_model, settings.trust_remote_code)
        if not is_of_hub(settings.base_model):
            told["base_model"] = Path(settings.base_model).name  # no path of this machine
    how, length = settings.initialisation, settings.equal_length
    write_base_model(workspace, *start, told, how, settings.seed, length, settings.template, settings.dtype)
