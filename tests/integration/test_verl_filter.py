"""The group filter on verl's real replay buffer, with a TransferQueue that is a dict."""

from types import SimpleNamespace

import pytest

pytest.importorskip("verl")

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import replay_buffer

from gream_ext.errors import GreamError
from gream_ext.plugins.verl import filter as group_filter
from gream_ext.plugins.verl import filter_options
from gream_ext.plugins.verl.rollout_options import ANCHOR

pytestmark = pytest.mark.integration


WARMUP = -1
"""``trainer.critic_warmup`` of the user, which a skipped step changes for itself alone."""


class Queue:
    """TransferQueue's calls as verl and we make them."""

    def __init__(self):
        self.tags = {}
        self.fields = {}

    def kv_list(self, partition_id=None):
        return {"train": {key: dict(tag) for key, tag in self.tags.items()}}

    def kv_clear(self, keys, partition_id):
        for key in keys:
            self.tags.pop(key, None)
            self.fields.pop(key, None)

    def kv_batch_get(self, keys, partition_id, select_fields):
        return {name: [self.fields[key][name] for key in keys] for name in select_fields}


class Rollouts:
    """What verl's trainer and its agent loops do: each prompt gets the next of the planned groups, some polls later."""

    def __init__(self, queue, plan):
        self.queue, self.plan = queue, list(plan)
        self.config = SimpleNamespace(trainer=SimpleNamespace(critic_warmup=WARMUP))
        self.actor_rollout_wg = SimpleNamespace(update_actor=lambda batch: batch.extra_info["global_batch_size"])
        self.asked = 0
        self.at_work = []
        self.changed = {}
        """What the reward returns instead; ``...`` where it returns nothing of that name."""
        self.given = None
        """The level of rollouts that are anchors."""

    def ask(self, prompts):
        for _ in range(prompts):
            uid = f"uid{self.asked}"
            self.queue.tags[uid] = {"is_prompt": True, "status": "pending", "global_steps": 1}
            self.at_work.append((uid, self.plan[self.asked % len(self.plan)]))
            self.asked += 1

    def work(self, seconds):
        """Instead of sleeping: one prompt is done."""
        if not self.at_work:
            return
        uid, levels = self.at_work.pop(0)
        for session, level in enumerate(levels):
            key = f"{uid}_{session}_0"
            info = {"score": (level / 5) ** 0.5, "matched_levels": level, "acc": float(level == 5), "well_formed": True}
            info = {name: value for name, value in (info | self.changed).items() if value is not ...}
            self.queue.tags[key] = {"status": "success", "response_len": 10, "seq_len": 20}
            anchor = {ANCHOR: (3, -2.0)} if level == self.given else {}
            level_fields = {"reward_extra_info": info, **anchor}
            self.queue.fields[key] = {"extra_fields": level_fields, "index": 7}
        self.queue.tags[uid]["status"] = "finished" if levels else "failure"


@pytest.fixture
def sampled(monkeypatch):
    """Sample one training batch of four groups; what became of the queue is in ``.queue``."""

    def sample(plan, batch_size=4, keep_rate=1.0, steps=1, changed=None, given=None, **options):
        queue = Queue()
        rollouts = sample.rollouts = Rollouts(queue, plan)
        rollouts.changed, rollouts.given = changed or {}, given
        for module in (replay_buffer, group_filter):
            monkeypatch.setattr(module, "tq", queue)
        monkeypatch.setattr(group_filter.time, "sleep", rollouts.work)
        buffer = group_filter.GroupFilter(
            trainer_mode="sync",
            trainer_config={},
            max_off_policy_threshold=8,
            max_off_policy_strategy="drop",
            sampler_kwargs=options,
            refill_fn=rollouts.ask,
        )
        buffer.keep_rate = keep_rate
        for step in range(1, steps + 1):
            rollouts.ask(batch_size)
            batch, metrics = buffer.sample(step, "train", batch_size)
            if step < steps:
                queue.kv_clear(batch.keys, "train")
        sample.queue, sample.asked, sample.buffer = queue, rollouts.asked, buffer
        return batch, metrics

    return sample


GOOD, WRONG, LOW = (0, 1, 5), (0, 0, 0), (0, 1, 1)


def test_keeps_what_has_signal(sampled, capsys):
    batch, metrics = sampled([GOOD])
    assert len(batch.keys) == 12
    assert sampled.asked == 4
    assert metrics["gream/groups/kept"] == 4
    assert metrics["gream/groups/refills"] == metrics["gream/groups/missing"] == 0
    assert capsys.readouterr().out == ""


def test_replaces_what_has_none(sampled):
    batch, metrics = sampled([GOOD, WRONG, LOW])
    assert len(batch.keys) == 12
    assert metrics["gream/groups/kept"] == 4
    assert metrics["gream/groups/evicted_same"] == metrics["gream/groups/evicted_same_at_0"] == 2
    assert metrics["gream/groups/refills"] == sampled.asked - 4 == 2
    assert metrics["gream/rollouts/wasted"] == 6
    assert metrics["gream/tokens/wasted"] == 60
    # Nothing is left in the queue but the batch.
    assert set(sampled.queue.tags) == set(batch.keys)


def test_an_anchor_gives_a_group_its_signal_and_is_counted_apart(sampled):
    """Of each group of wrong rollouts one was given the true answer."""
    batch, metrics = sampled([(5, 0, 0)], given=5, srpo={"k": 1, "anchored": True})
    assert len(batch.keys) == 12
    assert (metrics["gream/groups/kept"], metrics["gream/groups/refills"]) == (4, 0)
    assert (metrics["gream/rollouts/all"], metrics["gream/rollouts/reward"]) == (8, 0.0)
    assert (metrics["gream/anchors/all"], metrics["gream/anchors/logprob"]) == (4, -2.0)
    assert metrics["gream/srpo/rho"] == 0.0


def test_floor(sampled):
    _, metrics = sampled([GOOD, LOW], min_level=2)
    assert metrics["gream/groups/evicted_below_floor"] > 0
    assert metrics["gream/groups/kept"] == 4


def test_binary_rewards_go_by_exactness(sampled):
    """Two different levels, nobody exactly right: no signal in a binary reward."""
    batch, metrics = sampled([LOW, GOOD], metric="acc")
    assert metrics["gream/groups/evicted_same"] > 0
    assert {key.split("_")[0] for key in batch.keys} <= {f"uid{number}" for number in range(1, 99, 2)}


def test_refills_are_bounded_and_the_step_is_trained_on_what_there_is(sampled, capsys):
    plan = [GOOD, *[WRONG] * 99]
    batch, metrics = sampled(plan, max_refills=1.5)
    assert metrics["gream/groups/refills"] == 6
    assert sampled.asked == 10
    assert len(batch.keys) == 3
    assert (metrics["gream/groups/kept"], metrics["gream/groups/missing"]) == (1, 3)
    assert "gream: step on 1 of 4 groups, there is no more after 6 refills" in capsys.readouterr().out
    assert set(sampled.queue.tags) == set(batch.keys)


def test_a_step_without_any_signal_is_skipped(sampled, capsys):
    """Every rollout wrong: no hang, no error, and nothing to learn from in the batch."""
    batch, metrics = sampled([WRONG])
    assert (metrics["gream/groups/kept"], metrics["gream/groups/missing"]) == (0, 4)
    assert metrics["gream/groups/refills"] == 8
    assert len(batch.keys) == 3
    # Verl updates the policy from the step after this one on.
    assert sampled.rollouts.config.trainer.critic_warmup == 2
    assert capsys.readouterr().out == (
        "gream: step skipped, none of 12 groups has rollouts of different rewards: the policy is left as it is\n"
    )


def test_after_a_skipped_step_the_policy_is_updated_again(sampled):
    """12 groups of the first step have none; the second has four at once."""
    _, metrics = sampled([*[WRONG] * 12, *[GOOD] * 4], steps=2)
    assert metrics["gream/groups/kept"] == 4
    assert sampled.rollouts.config.trainer.critic_warmup == WARMUP


def test_or_fails_if_so_wanted(sampled):
    with pytest.raises(GreamError, match="none of 12 groups"):
        sampled([WRONG], when_empty="fail")


def test_failed_rollouts(sampled):
    _, metrics = sampled([(), GOOD, (5,)])
    assert metrics["gream/groups/evicted_failed"] > 0
    assert metrics["gream/groups/kept"] == 4
    with pytest.raises(GreamError, match="every rollout of this step failed"):
        sampled([()])


def test_asks_ahead_for_what_will_likely_be_needed(sampled):
    """A quarter was kept in the last step: all refills that are allowed at once; four of six good groups are used."""
    batch, metrics = sampled([GOOD, WRONG], keep_rate=0.25, ahead=True)
    assert metrics["gream/groups/refills"] == 8
    assert metrics["gream/groups/kept"] == 4
    assert (metrics["gream/groups/surplus"], metrics["gream/groups/missing"]) == (2, 0)
    assert metrics["gream/rollouts/wasted"] == 3 * (6 + 2)
    assert len(batch.keys) == 12
    assert set(sampled.queue.tags) == set(batch.keys)


def test_surplus_groups_are_wasted_and_yet_passed_the_filter(sampled):
    """Six of twelve passed, four fit: 2 + 6 groups of 3 rollouts with 10 tokens each were made for nothing."""
    _, metrics = sampled([GOOD, WRONG], keep_rate=0.25, ahead=True)
    assert metrics["gream/groups/kept_rate"] == 0.5
    assert metrics["gream/tokens/wasted"] == 10 * metrics["gream/rollouts/wasted"] == 10 * 3 * (6 + 2)
    assert metrics["gream/tokens/all"] == 10 * metrics["gream/rollouts/all"] == 10 * 3 * 12


def test_a_step_asks_ahead_by_what_the_one_before_it_kept(sampled):
    """The first step keeps 4 of 8, whatever was thought before; so the second asks for 4 beside its 4 at once."""
    half = [GOOD, WRONG] * 4
    for keep_rate in (0.25, 1.0):
        _, first = sampled([*half, *[GOOD] * 99], keep_rate=keep_rate, steps=1, ahead=True, max_refills=1)
        _, second = sampled([*half, *[GOOD] * 99], keep_rate=keep_rate, steps=2, ahead=True, max_refills=1)
        assert first["gream/groups/kept_rate"] == 0.5
        assert second["gream/groups/refills"] == second["gream/groups/surplus"] == 4


def test_asking_ahead_after_a_step_that_kept_nothing(sampled):
    _, metrics = sampled([WRONG, WRONG, GOOD], keep_rate=0.0, ahead=True)
    assert metrics["gream/groups/kept"] == 4
    assert metrics["gream/groups/refills"] == 8


def test_asking_ahead_counts_the_prompts_that_are_at_work(sampled):
    _, metrics = sampled([GOOD], keep_rate=1.0, ahead=True)
    assert metrics["gream/groups/refills"] == metrics["gream/groups/surplus"] == 0


def test_asking_ahead_ends_where_nothing_is_ever_kept(sampled):
    _, metrics = sampled([WRONG], keep_rate=0.0, ahead=True)
    assert (metrics["gream/groups/kept"], metrics["gream/groups/refills"]) == (0, 8)


def test_switched_off_it_keeps_everything_and_reports(sampled):
    batch, metrics = sampled([WRONG, GOOD], enable=False)
    assert len(batch.keys) == 12
    assert metrics["gream/groups/refills"] == 0
    assert metrics["gream/levels/0"] == 4 / 6


def test_switched_off_it_asks_for_no_others_and_trains_on_no_prompt_that_failed(sampled):
    batch, metrics = sampled([(), GOOD, WRONG], enable=False)
    assert (metrics["gream/groups/kept"], metrics["gream/groups/missing"]) == (2, 2)
    assert metrics["gream/groups/evicted_failed"] == 2
    assert metrics["gream/groups/refills"] == 0
    assert len(batch.keys) == 6


def test_rollouts_that_never_come_back_end_the_run(sampled, monkeypatch):
    monkeypatch.setattr(Rollouts, "work", lambda self, seconds: None)
    with pytest.raises(GreamError, match="no rollout came back"):
        sampled([GOOD], patience=0.01)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"minlevel": 1}, "no option 'minlevel'"),
        ({"metric": "score"}, "matched_levels or acc"),
        ({"when_empty": "cry"}, "skip or fail"),
        ({"metric": "acc", "min_level": 2}, "at most 1"),
        ({"max_refills": -1}, "0 or more"),
        ({"max_refills": "abc"}, "max_refills of the group filter must be a number"),
        ({"max_refills": float("nan")}, "max_refills of the group filter must be a number"),
        ({"patience": 0}, "patience of the group filter must be a number above 0"),
        ({"poll_interval": 0}, "poll_interval of the group filter must be a number above 0"),
        ({"patience": None}, "patience of the group filter must be"),
        ({"min_level": "x"}, "min_level of the group filter must be"),
        ({"enable": "no"}, "true or false"),
        ({"rescale": 1}, "rescale of the group filter must be true or false"),
        ({"srpo": 5}, "algorithm.srpo must be"),
    ],
)
def test_refuses_wrong_options(options, complaint):
    with pytest.raises(GreamError, match=complaint):
        filter_options.read_options(options)


def test_options_of_the_estimator_have_their_defaults():
    given = filter_options.read_options({"srpo": {"k": 2}}).srpo
    assert given == {"k": 2, "success_threshold": 1.0, "bonus": True, "anchored": False, "anchor_weight": None}
    assert filter_options.read_options({"srpo": None}).srpo is None


def test_surplus_groups_are_read_once(sampled, monkeypatch):
    """What came back is fetched when a group is judged, and not again when kept groups are too many."""
    asked = []
    original = Queue.kv_batch_get

    def counted(self, keys, partition_id, select_fields):
        asked.extend(keys)
        return original(self, keys, partition_id, select_fields)

    monkeypatch.setattr(Queue, "kv_batch_get", counted)
    _, metrics = sampled([GOOD, WRONG], keep_rate=0.25, ahead=True)
    assert metrics["gream/groups/surplus"] == 2
    assert len(asked) == len(set(asked)) == metrics["gream/rollouts/all"]


def test_refuses_asynchronous_trainers():
    with pytest.raises(GreamError, match="synchronous"):
        group_filter.GroupFilter(trainer_mode="colocate_async", sampler_kwargs={})


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("score", float("nan"), "a finite number"),
        ("score", float("-inf"), "a finite number"),
        ("score", None, "a finite number"),
        ("score", "0.5", "a finite number"),
        ("matched_levels", 1.5, "a whole number"),
        ("matched_levels", float("nan"), "a whole number"),
        ("well_formed", None, "a finite number"),
    ],
)
def test_a_reward_that_is_no_number_is_named_with_its_rollout(sampled, name, value, wanted):
    """Verl would make the advantages of its whole group NaN, and the weights with them."""
    with pytest.raises(GreamError, match=rf"rollout uid0_0_0, of the prompt with index 7, has the {name} .*{wanted}"):
        sampled([GOOD], changed={name: value})


@pytest.mark.parametrize(("name", "options"), [("score", {}), ("matched_levels", {}), ("acc", {"metric": "acc"})])
def test_a_reward_that_does_not_say_what_we_go_by_is_named(sampled, name, options):
    with pytest.raises(GreamError, match=rf"the reward's result has no '{name}', by which our group filter goes"):
        sampled([GOOD], changed={name: ...}, **options)


def test_what_was_asked_for_last_is_waited_for(sampled, monkeypatch):
    """All rollouts of a round come back at once, and the budget ends with the round that replaces them."""
    one = Rollouts.work
    monkeypatch.setattr(Rollouts, "work", lambda self, seconds: [one(self, seconds) for _ in list(self.at_work)])
    batch, metrics = sampled([*[WRONG] * 4, *[GOOD] * 4], max_refills=1)
    assert (metrics["gream/groups/kept"], metrics["gream/groups/refills"]) == (4, 4)
    assert len(batch.keys) == 12


def test_validation_is_verls_own(sampled, monkeypatch):
    asked = []
    sampled([GOOD])
    monkeypatch.setattr(replay_buffer.ReplayBuffer, "sample", lambda self, *what: asked.append(what) or ("batch", {}))
    assert sampled.buffer.sample(3, "val", 7) == ("batch", {})
    assert asked == [(3, "val", 7)]


def test_numbers_of_torch_and_numpy_are_numbers(sampled):
    import numpy as np
    import torch

    changed = {"score": torch.tensor(0.5), "matched_levels": np.int64(1), "well_formed": np.bool_(True)}
    _, metrics = sampled([GOOD], changed=changed, enable=False)
    assert metrics["gream/rollouts/reward"] == 0.5
    assert metrics["gream/rollouts/well_formed"] == 1.0


def test_rescaled_a_batch_is_divided_by_its_rollouts(sampled):
    """Of 12 rows 3 are rollouts: the rest fills up mini-batches of 12."""
    tags = [{}, {"is_padding": False}, {}, *[{"is_padding": True}] * 9]
    for rescale, divisor in ((False, 12), (True, 3)):
        sampled([GOOD], steps=3, rescale=rescale)
        batch = KVBatchMeta(keys=list("abcdefghijkl"), tags=tags, extra_info={"global_batch_size": 12})
        assert sampled.rollouts.actor_rollout_wg.update_actor(batch) == divisor
