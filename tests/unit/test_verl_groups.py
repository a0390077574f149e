import pytest

from gream_ext.plugins.verl.groups import BELOW_FLOOR, FAILED, KEPT, SAME, Group, StepRecord, bonus_metrics, judge


def group(*levels, tokens=0):
    return Group(levels, [(level / 5) ** 0.5 for level in levels], tokens, levels, len(levels))


def srpo(k, bonus, **options):
    return {"k": k, "success_threshold": 1.0, "bonus": bonus, **options}


@pytest.mark.parametrize(
    ("values", "min_level", "verdict"),
    [
        ((0, 0, 1), 1, KEPT),
        ((0, 0, 0), 1, SAME),
        ((5, 5, 5), 1, SAME),
        ((0, 1, 1), 2, BELOW_FLOOR),
        ((0, 1, 2), 2, KEPT),
        ((2, 2), 3, SAME),
        ((3,), 1, FAILED),
        ((), 1, FAILED),
    ],
)
def test_judge(values, min_level, verdict):
    assert judge(group(*values), min_level) == verdict


def test_ten_equal_rewards_are_the_same():
    """The standard deviation of ten times (2/4)^½ is 1.1e-16 in Python's floats, not 0."""
    assert judge(group(*[2] * 10)) == SAME


def test_record_by_hand():
    record = StepRecord()
    for values, tokens in (((0, 5), 30), ((0, 0), 20), ((1, 1), 10), ((), 0)):
        each = group(*values, tokens=tokens)
        record.groups.append((each, judge(each)))
    record.refills = 3
    metrics = record.metrics(highest=5, srpo={"k": 1, "success_threshold": 1.0, "bonus": True})
    assert metrics["gream/groups/kept"] == 1
    assert metrics["gream/groups/kept_rate"] == 0.25
    assert metrics["gream/groups/refills"] == 3
    assert metrics["gream/groups/evicted_same"] == 2
    assert metrics["gream/groups/evicted_same_at_0"] == metrics["gream/groups/evicted_same_at_1"] == 1
    assert metrics["gream/groups/evicted_failed"] == 1
    assert metrics["gream/groups/evicted_below_floor"] == 0
    assert metrics["gream/rollouts/all"] == 6
    assert metrics["gream/rollouts/wasted"] == 4
    assert metrics["gream/rollouts/well_formed"] == 1.0
    assert metrics["gream/tokens/all"] == 60
    assert metrics["gream/tokens/wasted"] == 30
    assert metrics["gream/rollouts/reward"] == pytest.approx((1 + 2 * 0.2**0.5) / 6)
    assert [metrics[f"gream/levels/{level}"] for level in range(6)] == pytest.approx([3 / 6, 2 / 6, 0, 0, 0, 1 / 6])
    # G=2, c=1, k=1: ρ=σ=½.
    assert metrics["gream/srpo/rho"] == metrics["gream/srpo/sigma"] == 0.5


def test_share_of_the_bonus_by_hand():
    # Rewards 1 and 0: dense ±1/√2, bonus ±1.
    found = bonus_metrics([group(5, 0)], srpo(1, True))
    assert found["gream/srpo/bonus_share"] == pytest.approx(1 / (1 + 2**-0.5), abs=1e-5)
    assert bonus_metrics([group(5, 1)], srpo(1, True))["gream/srpo/rho"] == 0.5
    assert bonus_metrics([group(5, 0)], srpo(1, False))["gream/srpo/bonus_share"] == 0.0
    assert bonus_metrics([group(1, 0)], srpo(4, True))["gream/srpo/bonus_share"] == 0.0


def test_binary_rewards_report_levels_too():
    record = StepRecord()
    record.groups.append((Group([0, 1], [0.0, 1.0], 0, [3, 5], 2), KEPT))
    assert record.metrics(highest=5)["gream/levels/3"] == 0.5
    assert "gream/srpo/rho" not in record.metrics(highest=5)


def test_a_step_without_rollouts():
    assert StepRecord().metrics(highest=0)["gream/rollouts/reward"] == 0.0


def test_what_the_batch_has_no_room_for_has_no_part_in_its_bonus():
    """Two groups that are equal, one of them surplus: counted once as trained on, once as wasted."""
    record = StepRecord(refills=1)
    record.groups = [(group(5, 0, tokens=7), KEPT), (group(5, 0, tokens=7), KEPT), (group(5, 5, 5, 0, tokens=9), KEPT)]
    record.surplus = [record.groups[0][0], record.groups[2][0]]
    metrics = record.metrics(highest=5, srpo={"k": 1, "success_threshold": 1.0, "bonus": True})
    assert (metrics["gream/groups/kept"], metrics["gream/groups/surplus"]) == (1, 2)
    assert metrics["gream/groups/kept_rate"] == 1.0
    assert metrics["gream/srpo/rho"] == 0.5  # with the other ones it would be 7/12
    assert (metrics["gream/tokens/all"], metrics["gream/tokens/wasted"]) == (23, 16)
    assert (metrics["gream/rollouts/all"], metrics["gream/rollouts/wasted"]) == (8, 6)


def test_at_which_level_all_agree_is_said_of_those_that_agree_alone():
    record = StepRecord([(group(1, 1), SAME), (group(1, 0), BELOW_FLOOR), (group(1), FAILED)])
    metrics = record.metrics(highest=1)
    assert (metrics["gream/groups/evicted_same_at_0"], metrics["gream/groups/evicted_same_at_1"]) == (0, 1)
    assert metrics["gream/groups/evicted_below_floor"] == metrics["gream/groups/evicted_failed"] == 1


def test_anchors_are_counted_apart():
    """Two wrong rollouts and the true answer: a group with a signal, of whose rollouts none is right."""
    anchored = Group((0, 0, 5), [0.0, 0.0], 18, (0, 0), 2, [-3.0])
    other = Group((5, 0, 5), [1.0, 0.0], 18, (5, 0), 2, [-1.0])
    assert judge(anchored) == KEPT
    record = StepRecord([(anchored, KEPT), (other, KEPT)])
    metrics = record.metrics(highest=5, srpo=srpo(1, True))
    assert (metrics["gream/rollouts/all"], metrics["gream/rollouts/reward"]) == (4, 0.25)
    assert (metrics["gream/anchors/all"], metrics["gream/anchors/logprob"]) == (2, -2.0)
    assert metrics["gream/levels/5"] == 0.25
    assert metrics["gream/srpo/rho"] == 0.25
    # Dense: 0, 0, 1 gives 4/√3 in absolute values, 1, 0, 1 the same; the bonus ±1 of the second group.
    assert metrics["gream/srpo/bonus_share"] == pytest.approx(2 / (2 + 8 / 3**0.5), abs=1e-5)
    # As a term beside the group: its weight for each anchor, and ±1/√2 of the second group.
    apart = record.metrics(highest=5, srpo=srpo(1, True, anchor_weight=0.5))
    assert apart["gream/srpo/bonus_share"] == pytest.approx(2 / (2 + 2**0.5 + 1), abs=1e-5)
