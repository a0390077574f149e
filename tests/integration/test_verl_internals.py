"""What we rely on in verl is there, and a change of it is one sentence."""

import pytest

pytest.importorskip("verl")

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from gream_ext.errors import GreamError
from gream_ext.plugins.verl import filter as group_filter
from gream_ext.plugins.verl import internals

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("part", internals.NAMES)
def test_everything_is_there_and_takes_what_we_give(part):
    assert internals.version() in internals.SUPPORTED
    internals.check(part)


@pytest.mark.parametrize(
    "changed",
    [
        lambda self, partition, keys, batch_size: None,
        lambda self, sampleable_keys, partition_id, batch_size: None,
        lambda self, partition_id, sampleable_keys: None,
        lambda self, partition_id, sampleable_keys, batch_size, order: None,
    ],
    ids=["renamed", "reordered", "one fewer", "one more that must be given"],
)
def test_a_changed_signature_is_one_sentence(monkeypatch, changed):
    monkeypatch.setattr(ReplayBuffer, "_select_prompt_uids", changed)
    with pytest.raises(GreamError) as raised:
        group_filter.GroupFilter(trainer_mode="sync", sampler_kwargs={})
    assert str(raised.value) == (
        f"verl.trainer.ppo.v1.replay_buffer.ReplayBuffer._select_prompt_uids of verl {internals.version()} takes "
        f"({', '.join(changed.__code__.co_varnames)}), not (self, partition_id, sampleable_keys, batch_size), "
        f"which the filter of gream_ext needs: install verl=={internals.SUPPORTED[-1]}"
    )


def test_parameters_that_need_not_be_given_change_nothing(monkeypatch):
    monkeypatch.setattr(
        ReplayBuffer,
        "_select_prompt_uids",
        lambda self, partition_id, sampleable_keys, batch_size, order=None, *rest, **more: None,
    )
    internals.check("filter")
