"""The estimator against verl's own GRPO, through verl's registry."""

import random

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from gream_ext.advantages import srpo_advantages
from gream_ext.errors import GreamError
from gream_ext.plugins.verl import estimator

core_algos = pytest.importorskip("verl.trainer.ppo.core_algos")


def batch(seed=0, rollouts=96, tokens=7):
    """Rewards of whole levels in groups of uneven size, under string ids, with ragged masks."""
    chance = random.Random(seed)
    levels = [chance.randrange(6) for _ in range(rollouts)]
    index = np.array([f"uid-{chance.randrange(14)}" for _ in range(rollouts)], dtype=object)
    lengths = torch.tensor([chance.randint(1, tokens) for _ in range(rollouts)])
    mask = (torch.arange(tokens) < lengths[:, None]).long()
    rewards = torch.zeros(rollouts, tokens)
    rewards[torch.arange(rollouts), lengths - 1] = (torch.tensor(levels) / 5) ** 0.5
    return rewards, mask, index


def config(**srpo):
    return OmegaConf.create({"adv_estimator": "srpo", "use_kl_in_reward": False, "srpo": srpo})


def test_verl_knows_it():
    estimator.register()
    assert core_algos.get_adv_estimator_fn("srpo") is estimator.srpo


@pytest.mark.parametrize("seed", range(5))
def test_without_the_bonus_it_is_grpo(seed):
    rewards, mask, index = batch(seed)
    ours, returns = estimator.srpo(rewards, mask, index, config=config(bonus=False))
    for name in ("grpo", "grpo_vectorized"):
        theirs, _ = core_algos.get_adv_estimator_fn(name)(rewards.clone(), mask, index)
        same = torch.tensor(
            [len(set(rewards.sum(1)[index == uid].tolist())) == 1 < (index == uid).sum() for uid in index]
        )
        # Where all rewards of a group are equal verl divides a rounding error by 1e-6.
        assert torch.allclose(ours[~same], theirs[~same], atol=1e-6 if name == "grpo" else 1e-5)
    assert torch.equal(ours, returns)
    assert not ours[mask == 0].any()


def test_with_the_bonus_it_is_srpo():
    rewards, mask, index = batch(3)
    ours, _ = estimator.srpo(token_level_rewards=rewards, response_mask=mask, index=index, config=config(k=3))
    scores = rewards.sum(1)
    expected = srpo_advantages(scores, scores >= 1, index, 3)
    assert torch.equal(ours, expected[:, None] * mask)


def test_the_mask_is_left_as_it_is():
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    kept = mask.clone()
    estimator.srpo(token_level_rewards=rewards, response_mask=mask, index=np.array(["q", "q"]), config=config())
    assert torch.equal(mask, kept)


def test_success_threshold():
    rewards, mask, index = batch(4)
    lower, _ = estimator.srpo(rewards, mask, index, config=config(success_threshold=0.8))
    scores = rewards.sum(1)
    assert torch.equal(lower, srpo_advantages(scores, scores >= 0.8, index, 4)[:, None] * mask)


def test_padding_of_verl_raises_nothing():
    rewards, mask = torch.zeros(5, 3), torch.zeros(5, 3)
    ours, _ = estimator.srpo(rewards, mask, np.array(["pad", "pad", "pad", "q", "r"], dtype=object), config=config())
    assert not ours.any()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kk": 4}, "no option 'kk'"),
        ({"k": 0}, "whole number"),
        ({"k": 2.5}, "whole number"),
        ({"k": True}, "whole number"),
        ({"success_threshold": 0}, "success_threshold"),
        ({"success_threshold": 1.5}, "above 0 and at most 1"),
        ({"success_threshold": "abc"}, "success_threshold"),
        ({"success_threshold": None}, "success_threshold"),
        ({"bonus": "false"}, "true or false"),
        ({"anchored": 1}, "true or false"),
        ({"anchor_weight": -1}, "anchor_weight must be a number, 0 or more, or null, not -1"),
    ],
)
def test_refuses_wrong_options(options, complaint):
    with pytest.raises(GreamError, match=complaint):
        estimator.options(config(**options))


def test_refuses_what_are_no_options():
    with pytest.raises(GreamError, match=r"algorithm\.srpo must be some of"):
        estimator.options(OmegaConf.create({"srpo": 5}))


def test_refuses_the_kl_in_the_reward():
    with pytest.raises(GreamError, match="use_kl_in_reward"):
        estimator.options(OmegaConf.create({"use_kl_in_reward": True}))


def test_defaults_without_options():
    assert estimator.options(OmegaConf.create({"use_kl_in_reward": False})) == {
        "k": 4,
        "success_threshold": 1.0,
        "bonus": True,
        "anchored": False,
        "anchor_weight": None,
    }
    assert estimator.options(None)["k"] == 4


@pytest.mark.parametrize("weight", [None, 0.3])
def test_an_anchor_is_known_by_its_last_token(weight):
    """Its reward stands where the mask is 0; a rollout that earned the same by itself is none."""
    rewards = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.5]])
    mask = torch.tensor([[0, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]])
    index, anchors = np.array(["q"] * 4, dtype=object), torch.tensor([True, False, False, False])
    options = config(k=2, anchored=True, anchor_weight=weight)
    ours, _ = estimator.srpo(rewards, mask, index, config=options)
    scores = rewards.sum(1)
    expected = srpo_advantages(scores, scores >= 1, index, 2, True, anchors, weight)
    assert torch.equal(ours, expected[:, None] * mask)
    alone, _ = estimator.srpo(rewards, mask, index, config=config(k=2))
    assert torch.equal(alone, srpo_advantages(scores, scores >= 1, index, 2)[:, None] * mask)
