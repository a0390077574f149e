"""Where our recipes are: beside the package in a source tree, inside it in a wheel."""

from pathlib import Path

import gream_ext


def recipes_folder() -> Path:
    """The folder that holds ``gream/*.yaml`` (verl) and the YAML files of LLaMA-Factory."""
    package = Path(gream_ext.__file__).resolve().parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"
