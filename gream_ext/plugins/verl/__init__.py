"""What we register in Verl: the SRPO estimator, the group filter, and the CPU platform.

Verl imports this module, through the entry point in the group ``verl.plugins``, in every process
that imports verl. It only *loads* the entry point, it does not call it, and it hides what goes
wrong: so importing this module registers, never raises, and keeps the error for `registered`.
"""

_failure: Exception | None = None


def register() -> None:
    """Register the estimator with Verl. Doing it again changes nothing."""
    from gream_ext.plugins.verl import estimator

    estimator.register()


def registered() -> dict[str, str]:
    """What did not take place, by name, as a sentence; empty when everything is in its place."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    if _failure is not None:
        return {"verl": f"registration in verl failed: {_failure!r}"}
    return {} if "srpo" in ADV_ESTIMATOR_REGISTRY else {"srpo": "verl does not know the estimator srpo"}


try:
    register()
except Exception as error:
    _failure = error
