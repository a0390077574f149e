"""Our recipes on Hydra's search path, so that ``+gream=srpo`` composes in verl's own launcher.

Hydra finds this through the namespace package ``hydra_plugins``.
"""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from gream_ext.plugins.recipes import recipes_folder


class RecipesSearchPath(SearchPathPlugin):
    """Appends the folder of recipes; what an application has of the same name comes first."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        search_path.append(provider="gream_ext", path=f"file://{recipes_folder()}")
