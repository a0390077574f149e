"""The recipes that come with the package."""

from pathlib import Path

import gream_ext
from gream_ext.errors import GreamError


def recipe_folder() -> Path:
    """The folder of the recipes: inside an installed wheel, beside the package in a checkout."""
    package = Path(gream_ext.__file__).parent
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def find_recipe(name: str) -> Path:
    """A recipe by its path or by the name of a shipped one, with or without ``recipes/`` and ``.yaml``.

    Raises:
        GreamError: if there is none.
    """
    shipped = recipe_folder()
    bare = name.removeprefix("recipes/")
    for path in (Path(name), shipped / bare, shipped / f"{bare}.yaml"):
        if path.is_file():
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise GreamError(f"there is no recipe {name}: give the path of a YAML file or one of {there or 'none'}")
