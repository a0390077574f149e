"""What of ours takes place in verl, and what is said where it does not."""

import logging
import re

import pytest

pytest.importorskip("verl")

from gream_ext.plugins import relied_on
from gream_ext.plugins.verl import registered
from gream_ext.plugins.verl.logs import REPEATED, register

pytestmark = pytest.mark.integration


def test_everything_is_registered():
    assert registered() == dict.fromkeys(registered(), "")


@pytest.mark.parametrize(
    ("version", "cure"),
    [
        ("0.8.0", "VERL_USE_EXTERNAL_MODULES=gream_ext.plugins.verl.entry"),
        ("0.9.1", "entry points .* VERL_USE_EXTERNAL_PLUGINS"),
        ("0.10.0", "entry points .* VERL_USE_EXTERNAL_PLUGINS"),
    ],
)
def test_what_is_not_loaded_is_said_with_the_cure_of_the_version(monkeypatch, version, cure):
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY

    monkeypatch.delitem(ADV_ESTIMATOR_REGISTRY, "srpo")
    monkeypatch.setattr(relied_on, "installed", lambda distribution: version)
    assert re.search(f"verl did not load gream_ext: .*{cure}", registered()["estimator"])


def test_what_verl_says_for_every_rollout_is_said_once():
    """82,178 of the 84,524 lines of a run's log were two such lines."""
    import psutil
    from transfer_queue.utils.common import limit_pytorch_auto_parallel_threads
    from verl.utils.tokenizer import continuous_token_wiring

    register()
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    for name in REPEATED:
        logging.getLogger(name).addHandler(handler)
    for family in ("a family of ours", "a family of ours", "another"):
        continuous_token_wiring.logger.warning(
            "No model-specific Continuous Token builder is registered for %r", family
        )
        with limit_pytorch_auto_parallel_threads(psutil.cpu_count() + 1):
            pass
    for name in REPEATED:
        logging.getLogger(name).removeHandler(handler)
    assert sum("Continuous Token builder is registered" in line for line in said) == 2
    assert sum("target_num_threads" in line for line in said) == 1
