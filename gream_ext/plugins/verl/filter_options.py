"""The options of the group filter; loads nothing of verl, so that a recipe is checked before anything starts."""

from dataclasses import dataclass, fields, replace
from typing import Any

from omegaconf import OmegaConf

from gream_ext.errors import GreamError
from gream_ext.plugins.demand import demand, is_number, is_whole, only
from gream_ext.plugins.verl import estimator


@dataclass(frozen=True)
class Options:
    """``trainer.v1.sampler.sampler_kwargs``."""

    enable: bool = True
    """False keeps every group and still reports on them."""
    metric: str = "matched_levels"
    """The integer of `compute_score`'s result that the recipe's reward is made of: or ``acc``."""
    min_level: int = 1
    max_refills: float = 2.0
    ahead: bool = False
    """Ask at once for as many prompts as the share of kept groups so far makes likely to be needed, not only for those
    that are known to be missing: fewer rounds where rollouts come back together. Kept groups too many are dropped."""
    when_empty: str = "skip"
    rescale: bool = False
    """Divide a step's loss by the number of its rollouts, not by that of the rows that verl fills the batch up to."""
    poll_interval: float = 0.2
    patience: float = 3600.0
    """Seconds in which some rollout must come back, or the run fails."""
    srpo: dict | None = None
    """The estimator's options, for the metrics about ρ, σ and the bonus; what is left out has its default."""


def read_options(given: Any) -> Options:
    """Check the options; `GreamError` names a wrong key or value."""
    values = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else dict(given or {})
    assert isinstance(values, dict)
    only("trainer.v1.sampler.sampler_kwargs", values, [field.name for field in fields(Options)])
    options = Options(**{str(name): value for name, value in values.items()})
    if options.srpo is not None:
        options = replace(options, srpo=estimator.options({"srpo": options.srpo}))
    demand("algorithm.filter_groups.metric", options.metric, options.metric in ("matched_levels", "acc"),
           "matched_levels or acc")  # fmt: skip
    for names, right, wanted in (
        ("enable ahead rescale", lambda value: isinstance(value, bool), "true or false"),
        ("min_level", is_whole, "a whole number, 0 or more"),
        ("max_refills", is_number, "a number, 0 or more"),
        ("when_empty", lambda value: value in ("skip", "fail"), "skip or fail"),
        ("poll_interval patience", lambda value: is_number(value) and value > 0, "a number above 0"),
    ):
        for name in names.split():
            value = getattr(options, name)
            demand(f"{name} of the group filter", value, right(value), wanted)
    if options.metric == "acc" and options.min_level > 1:
        raise GreamError("min_level of the group filter is about matched levels: with the metric acc it is at most 1")
    return options
