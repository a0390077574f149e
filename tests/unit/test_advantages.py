import itertools
import math
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.advantages import bonus_advantages, dense_advantages, group_bonus, group_success, srpo_advantages


def slow_srpo(rewards, correct, groups, k):
    """Eqs 15–21 one rollout at a time, with integers and fractions until the last step."""
    advantages = []
    for i, group in enumerate(groups):
        members = [j for j, other in enumerate(groups) if other == group]
        size, right = len(members), sum(correct[j] for j in members)
        k_group = min(k, size)
        rho = 1 - Fraction(math.comb(size - right, k_group), math.comb(size, k_group))
        sigma = math.sqrt(rho * (1 - rho))
        if sigma == 0:
            bonus = 0.0
        elif correct[i]:
            bonus = (1 - rho) / sigma
        else:
            bonus = (
                1 - rho - Fraction(math.comb(size - right - 1, k_group - 1), math.comb(size - 1, k_group - 1))
            ) / sigma
        mean = sum(rewards[j] for j in members) / size
        spread = math.sqrt(sum((rewards[j] - mean) ** 2 for j in members) / (size - 1)) if size > 1 else 1.0
        dense = (rewards[i] - (mean if size > 1 else 0.0)) / (spread + 1e-6)
        advantages.append(dense + float(bonus))
    return advantages


def test_group_success_by_hand():
    # G=4, c=1, k=2: the wrong pairs are 3 of 6. G=10, c=2, k=4: C(8,4)/C(10,4) = 70/210.
    assert group_success(1, 4, 2) == 0.5
    assert group_success(2, 10, 4) == pytest.approx(2 / 3, abs=1e-15)
    assert [group_success(c, 4, 1) for c in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert group_success(0, 10, 4) == 0.0
    assert group_success(7, 10, 4) == 1.0  # k > G - c: somebody right is drawn for certain
    assert group_success(1, 3, 4) == 1.0  # a group smaller than k is drawn whole
    assert group_success(0, 1, 4) == 0.0


def test_group_success_is_exact_in_large_groups():
    exact = 1 - Fraction(math.comb(1014, 512), math.comb(1024, 512))
    assert group_success(10, 1024, 512) == float(exact)
    assert group_success(512, 1024, 512) == 1.0
    assert group_bonus(512, 1024, 512)[0] > 0.0  # ρ rounds to 1, yet σ is not 0
    assert group_success(1, 1024, 1) == 1 / 1024


@pytest.mark.parametrize(("count", "k"), [(1, 4), (10, 512), (512, 512), (1020, 3), (1023, 1)])
def test_bonus_is_exact_in_large_groups(count, k):
    """Against one factor after another, without binomials, in fractions until the last step."""
    miss = math.prod((Fraction(1024 - count - i, 1024 - i) for i in range(k)), start=Fraction(1))
    delta = math.prod((Fraction(1023 - count - i, 1023 - i) for i in range(k - 1)), start=Fraction(1))
    sigma = math.sqrt(miss * (1 - miss))
    right, wrong = group_bonus(count, 1024, k)
    assert right == pytest.approx(float(miss) / sigma, rel=1e-14)
    assert wrong == pytest.approx(float(miss - delta) / sigma, rel=1e-14)
    assert count * right + (1024 - count) * wrong == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("count", "size", "k"), [(-1, 4, 1), (5, 4, 1), (1, 4, 0), (0, 0, 1)])
def test_group_success_refuses(count, size, k):
    with pytest.raises(ValueError, match="no group"):
        group_success(count, size, k)
    with pytest.raises(ValueError, match="no group"):
        group_bonus(count, size, k)


def test_bonus_by_hand():
    # G=4, c=1, k=2: ρ=σ=1/2, δ=C(2,1)/C(3,1)=2/3, so +1 and (1/2-2/3)/(1/2) = -1/3.
    assert group_bonus(1, 4, 2) == pytest.approx((1.0, -1 / 3))
    # G=10, c=1, k=4: ρ=.4, σ=√.24, δ=C(8,3)/C(9,3)=56/84.
    assert group_bonus(1, 10, 4) == pytest.approx((0.6 / math.sqrt(0.24), (0.6 - 2 / 3) / math.sqrt(0.24)))
    for count, size, k in [(0, 10, 4), (7, 10, 4), (10, 10, 4), (1, 1, 4), (0, 1, 4), (1, 3, 4)]:
        assert group_bonus(count, size, k) == (0.0, 0.0)


def test_srpo_by_hand():
    """Rewards 1, ½, 0, 0 with k 2: mean 3/8, unbiased variance 11/48."""
    rewards = torch.tensor([1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    spread = math.sqrt(11 / 48) + 1e-6
    dense = [0.625 / spread, 0.125 / spread, -0.375 / spread, -0.375 / spread]
    bonus = [1, -1 / 3, -1 / 3, -1 / 3]
    advantages = srpo_advantages(rewards, rewards == 1, ["q"] * 4, k=2)
    assert advantages.tolist() == pytest.approx([a + b for a, b in zip(dense, bonus, strict=True)])
    assert srpo_advantages(rewards, rewards == 1, ["q"] * 4, k=2, bonus=False).tolist() == pytest.approx(dense)


BATCHES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=40
)  # matched levels of 5, and a group


@given(BATCHES, st.integers(1, 12))
def test_equals_the_slow_reference(batch, k):
    rewards = [(matched / 5) ** 0.5 for matched, _ in batch]
    correct = [matched == 5 for matched, _ in batch]
    groups = [group for _, group in batch]
    advantages = srpo_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(correct), groups, k)
    assert advantages.tolist() == pytest.approx(slow_srpo(rewards, correct, groups, k), abs=1e-8)


@given(BATCHES, st.integers(1, 12))
def test_the_bonus_of_a_group_sums_to_zero(batch, k):
    correct = torch.tensor([matched == 5 for matched, _ in batch])
    groups = torch.tensor([group for _, group in batch])
    bonus = bonus_advantages(correct, groups, k)
    for group in groups.unique():
        assert abs(bonus[groups == group].sum().item()) < 1e-12


@given(BATCHES, st.integers(1, 12), st.randoms())
def test_permuted_rollouts_get_permuted_advantages(batch, k, random):
    def advantages(rows):
        rewards = torch.tensor([(matched / 5) ** 0.5 for matched, _ in rows], dtype=torch.float64)
        return srpo_advantages(rewards, rewards >= 1, [f"uid-{group}" for _, group in rows], k)

    order = list(range(len(batch)))
    random.shuffle(order)
    assert torch.allclose(advantages(batch)[order], advantages([batch[place] for place in order]), atol=1e-9)


@given(st.integers(2, 64), st.integers(1, 64))
def test_more_correct_rollouts_never_raise_the_bonus_of_a_correct_one(size, k):
    bonuses = [group_bonus(count, size, k)[0] for count in range(1, size + 1)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(bonuses))
    assert all(positive >= 0 >= negative for positive, negative in (group_bonus(c, size, k) for c in range(size + 1)))


def test_equal_rewards_have_no_dense_part():
    """Ten float32 rewards of (2/5)^½ do not average to themselves."""
    for matched in range(6):
        for size in range(2, 12):
            rewards = torch.full((size,), (matched / 5) ** 0.5)
            assert dense_advantages(rewards, [0] * size).tolist() == [0.0] * size


def test_any_group_labels_dtypes_and_an_empty_batch():
    rewards, correct = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, False, True])
    expected = srpo_advantages(rewards, correct, torch.tensor([7, 7, 3]), k=1)
    assert torch.equal(expected, srpo_advantages(rewards, correct, np.array(["b", "b", "a"], dtype=object), k=1))
    apart = np.array(["b", "a", "b"], dtype=object)
    assert torch.equal(expected[[0, 2, 1]], srpo_advantages(rewards[[0, 2, 1]], correct[[0, 2, 1]], apart, k=1))
    assert srpo_advantages(rewards.double(), correct, [7, 7, 3], k=1).dtype == torch.float64
    assert srpo_advantages(torch.zeros(0), torch.zeros(0, dtype=torch.bool), [], k=4).shape == (0,)


@pytest.mark.parametrize(
    ("rollouts", "groups"),
    [
        ((2, 3), [0, 0]),
        ((2, 3), np.zeros((2, 3))),
        ((), []),
        ((3,), [1, 2]),
        ((2,), torch.zeros(2, 1)),
        ((1,), np.array(0)),
    ],
)
def test_what_is_not_one_entry_a_rollout_is_named(rollouts, groups):
    rewards, correct = torch.ones(rollouts), torch.ones(rollouts, dtype=torch.bool)
    shape = re.escape(str(list(rollouts)))
    with pytest.raises(ValueError, match=rf"^one entry for each rollout is needed, not rewards {shape} and groups \["):
        dense_advantages(rewards, groups)
    with pytest.raises(ValueError, match=rf"for each rollout is needed, not correct {shape} and groups \["):
        bonus_advantages(correct, groups, k=1)
    with pytest.raises(ValueError, match=rf"rewards {shape}, correct {shape} and groups \["):
        srpo_advantages(rewards, correct, groups, k=1)


def test_rewards_and_correctness_of_other_rollouts_are_refused():
    with pytest.raises(ValueError, match=r"not rewards \[2\], correct \[1\] and groups \[2\]"):
        srpo_advantages(torch.ones(2), torch.tensor([True]), [0, 0], k=1)


@pytest.mark.parametrize("groups", [["a", "a", "b"], torch.tensor([4, 4, 5]), np.array(["a", "a", "b"], dtype=object)])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_no_number_is_named(wrong, groups):
    """It would make the advantages of its whole group NaN."""
    rewards = torch.tensor([1.0, wrong, 0.0])
    sentence = rf"^the reward of rollout 1, of the group (a|4|tensor\(4\)), is {wrong}, no finite number$"
    for advantages in (
        lambda: srpo_advantages(rewards, rewards == 1, groups, k=2),
        lambda: dense_advantages(rewards, groups),
    ):
        with pytest.raises(ValueError, match=sentence):
            advantages()


@pytest.mark.parametrize("k", [0, -1])
def test_a_draw_of_nothing_is_refused(k):
    rewards, correct = torch.tensor([1.0, 0.0]), torch.tensor([True, False])
    with pytest.raises(ValueError, match=f"^k of eq. 15 must be at least 1, not {k}$"):
        bonus_advantages(correct, [0, 0], k)
    with pytest.raises(ValueError, match=f"^k of eq. 15 must be at least 1, not {k}$"):
        srpo_advantages(rewards, correct, [0, 0], k, bonus=False)


@pytest.mark.parametrize(
    "labels",
    [
        [1, 1, "1", "1"],
        ("u", "u", "v", "v"),
        [("align", 1), ("align", 1), ("align", 2), ("align", 2)],
        [None, None, 0, 0],
        list(torch.tensor([4, 4, 9, 9])),
        [np.int64(4), 4, 9, np.int64(9)],
    ],
    ids=str,
)
def test_labels_are_told_apart_as_python_tells_them(labels):
    rewards, correct = torch.tensor([1.0, 0.0, 1.0, 0.25]), torch.tensor([True, False, True, False])
    expected = srpo_advantages(rewards, correct, torch.tensor([0, 0, 1, 1]), k=1)
    assert torch.equal(srpo_advantages(rewards, correct, labels, k=1), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_integer_rewards_are_float32(dtype):
    rewards, correct = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, False, True])
    expected = srpo_advantages(rewards, correct, [0, 0, 0], k=2)
    assert torch.equal(srpo_advantages(rewards.to(dtype), correct, [0, 0, 0], k=2), expected)
    assert dense_advantages(rewards.to(dtype), [0, 0, 0]).dtype == torch.float32


def test_a_group_of_1024():
    generator = torch.Generator().manual_seed(0)
    correct = torch.rand(1024, generator=generator) < 0.01
    advantages = srpo_advantages(correct.float(), correct, torch.zeros(1024, dtype=torch.long), k=4)
    assert torch.isfinite(advantages).all()
    assert advantages[correct].min() > 0 > advantages[~correct].max()


def test_anchors_by_hand():
    """Two groups of three, the first rollout of each an anchor, in mixed order; k=1."""
    rewards = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    anchors = torch.tensor([True, True, False, False, False, False])
    groups = ["p", "q", "p", "q", "p", "q"]
    member = srpo_advantages(rewards, rewards >= 1, groups, 1, True, anchors)
    # 1, 0, 0 → mean 1/3, std 1/√3; the anchor without a bonus, for none of the others is right.
    assert member[[0, 2, 4]].tolist() == pytest.approx([2 / 3**0.5, -1 / 3**0.5, -1 / 3**0.5], abs=1e-5)
    # 1, 1, 0 → mean 2/3, std 1/√3; of the two others one is right: bonus ±1.
    assert member[[1, 3, 5]].tolist() == pytest.approx([1 / 3**0.5, 1 / 3**0.5 + 1, -2 / 3**0.5 - 1], abs=1e-5)
    apart = srpo_advantages(rewards, rewards >= 1, groups, 1, True, anchors, 0.25)
    assert apart[[0, 2, 4]].tolist() == [0.25, 0.0, 0.0]
    assert apart[[1, 3, 5]].tolist() == pytest.approx([0.25, 2**-0.5 + 1, -(2**-0.5) - 1], abs=1e-5)


@pytest.mark.parametrize("weight", [None, 0.5])
def test_without_an_anchor_nothing_changes(weight):
    rewards, groups = torch.tensor([1.0, 0.0, 0.5, 0.0]), ["p", "p", "q", "q"]
    expected = srpo_advantages(rewards, rewards >= 1, groups, 2)
    assert torch.equal(
        srpo_advantages(rewards, rewards >= 1, groups, 2, True, torch.zeros(4, dtype=bool), weight), expected
    )
