"""What we register in verl: the SRPO estimator, the group filter, and the CPU platform.

`gream_ext.plugins.verl.entry` is what verl loads; importing this package alone does nothing.
"""

from gream_ext.plugins.recipes import recipes_folder
from gream_ext.plugins.verl import internals, logs

failures: dict[str, str] = {}
"""What could not be registered in this process, and why; verl itself would hide it."""


def register() -> None:
    """Register with verl what this process needs. Never raises, and doing it again changes nothing."""
    for name, step in {"logs": _logs, "platform": _platform, "estimator": _estimator}.items():
        try:
            step()
            failures.pop(name, None)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"


def registered() -> dict[str, str]:
    """What of ours took place in verl in this process: name → ``""``, or a sentence that says why not.

    Imports verl, and with it, through its entry point, whatever of ours it loads by itself.
    """
    import verl  # noqa: F401

    found = {"version": internals.unsupported(), "recipes": _recipes_on_the_path()}
    for part in ("estimator", "filter", "platform"):
        try:
            internals.check(part)
            found[part] = failures.get(part, "")
        except Exception as error:
            found[part] = str(error)
    if not found["estimator"]:
        from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

        if "srpo" not in ADV_ESTIMATOR_REGISTRY:
            found["estimator"] = f"verl did not load gream_ext: {internals.cure_when_not_loaded()}"
    return found


def _logs() -> None:
    logs.register()


def _estimator() -> None:
    from gream_ext.plugins.verl import estimator

    estimator.register()


def _platform() -> None:
    from gream_ext.plugins.verl.cpu import platform

    platform.register()
    if platform.asked_for():
        from gream_ext.plugins.verl.cpu import support as cpu

        cpu.use_in_worker()


def _recipes_on_the_path() -> str:
    """Whether Hydra finds our recipes by itself, as a sentence when it does not."""
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    if not (recipes_folder() / "gream" / "srpo.yaml").is_file():
        return f"there is no gream/srpo.yaml in {recipes_folder()}: install gream-ext again"
    if not any(plugin.__name__ == "RecipesSearchPath" for plugin in Plugins.instance().discover(SearchPathPlugin)):
        return "Hydra does not find the recipes of gream_ext: install gream-ext again"
    return ""
