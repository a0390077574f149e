"""The recipes that come with the package, by name."""

from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.plugins.recipes_path import recipes_folder


def find_recipe(name: str) -> Path:
    """A recipe for LLaMA-Factory by its path, or a shipped one by its name; ``recipes/`` and ``.yaml`` may be missing.

    Raises:
        GreamError: if there is none.
    """
    shipped = recipes_folder()
    bare = name.removeprefix("recipes/")
    for path in (Path(name), shipped / bare, shipped / f"{bare}.yaml"):
        if path.is_file():
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in shipped.glob("*.yaml")))
    raise GreamError(f"there is no recipe {name}: give the path of a YAML file or one of {there or 'none'}")
