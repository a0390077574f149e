"""Our recipes, beside the package in a source tree and inside it in a wheel; finding and reading one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

import gream_ext
from gream_ext.errors import GreamError


def recipes_folder() -> Path:
    """The folder that holds ``gream/*.yaml`` (verl) and the YAML files of LLaMA-Factory."""
    package = Path(gream_ext.__file__).resolve().parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name: str) -> Path:
    """A recipe by its path, or a shipped one by its name; ``recipes/`` and ``.yaml`` may be missing.

    Raises:
        GreamError: if there is none.
    """
    shipped, bare = recipes_folder(), name.removeprefix("recipes/")
    for path in (Path(name), shipped / bare, shipped / f"{bare}.yaml"):
        if path.is_file():
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise GreamError(f"there is no recipe {name}: give the path of a YAML file or one of {there or 'none'}")


def recipe_keys(recipe: Path, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What LLaMA-Factory is told; `GreamError` for a recipe that is no mapping of keys."""
    try:
        keys = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise GreamError(f"recipe {recipe} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(keys, dict):
        raise GreamError(f"recipe {recipe} must be a mapping of LLaMA-Factory's keys, such as template: qwen3")
    return {**keys, **overrides}
