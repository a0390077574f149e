"""What of ours takes place in verl, and what is said where it does not."""

import re

import pytest

pytest.importorskip("verl")

from gream_ext.plugins import relied_on
from gream_ext.plugins.verl import registered

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
