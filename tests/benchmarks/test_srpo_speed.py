"""How fast the advantage and the reward are, beside verl's own: ``pytest tests/benchmarks -k srpo -s``."""

import random
import time
import uuid

import numpy as np
import pytest
import torch

pytest.importorskip("verl")

from omegaconf import OmegaConf
from verl.trainer.ppo import core_algos
from verl.utils.reward_score import gsm8k

from gream_ext.plugins.verl import estimator
from gream_ext.rewards import compute_score

ROLLOUTS, TOKENS, GROUP = 2560, 1024, 10
CALLS = 20


def fastest(*functions, rounds=60):
    """The shortest time of each in milliseconds; they take turns, so that a busy machine treats them alike."""
    times = [[] for _ in functions]
    for _ in range(rounds):
        for found, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            function()
            found.append(time.perf_counter() - started)
    return [1000 * min(found) for found in times]


def batch(tokens):
    chance = random.Random(0)
    rewards = torch.zeros(ROLLOUTS, tokens)
    rewards[:, -1] = torch.tensor([(chance.choice((0, 0, 0, 1, 2, 5)) / 5) ** 0.5 for _ in range(ROLLOUTS)])
    index = np.array([str(uuid.UUID(int=row // GROUP)) for row in range(ROLLOUTS)], dtype=object)
    return {
        "token_level_rewards": rewards,
        "response_mask": torch.ones(ROLLOUTS, tokens, dtype=torch.long),
        "index": index,
    }


def calls(tokens, *names):
    estimator.register()
    config = OmegaConf.create({"use_kl_in_reward": False, "srpo": {"k": 4}})
    given = batch(tokens)
    functions = [core_algos.get_adv_estimator_fn(name) for name in names]
    return [lambda function=function: function(**given, config=config) for function in functions]


def test_srpo_advantage_end_to_end():
    """Of all the estimators do, summing the rewards and spreading over the mask takes most."""
    ours, theirs = fastest(*calls(TOKENS, "srpo", "grpo_vectorized"))
    print(f"\n{ROLLOUTS} rollouts of {TOKENS} tokens: srpo {ours:.2f} ms, verl's grpo_vectorized {theirs:.2f} ms")
    assert ours < 1.2 * theirs


@pytest.mark.parametrize("loop", ["grpo", "grpo_passk"])
def test_srpo_advantage_beside_loops(loop):
    """Without that: one token a rollout."""
    ours, theirs = fastest(*calls(1, "srpo", loop))
    print(f"\n{ROLLOUTS} rollouts: srpo {ours:.2f} ms, verl's {loop} {theirs:.2f} ms, {theirs / ours:.0f} times")
    assert ours * 5 < theirs


def test_srpo_reward():
    """A response of 2 kB, beside looking for one string in it and beside verl's reward for GSM8K."""
    target = "<|a_1|><|b_2|><|c_3|><|d_4|><|e_5|>"
    text = f"<think>{'the user likes drama. ' * 88}</think> so <answer>{target}</answer>"
    # Turns of a fraction of a millisecond: on a busy machine the shortest of many was not interrupted.
    ours, floor, theirs = (
        1000 * milliseconds / CALLS
        for milliseconds in fastest(
            lambda: [compute_score("gream", text, target, {"mode": "reason"}) for _ in range(CALLS)],
            lambda: [text.rfind("<nowhere>") for _ in range(CALLS)],
            lambda: [gsm8k.compute_score(text, "42") for _ in range(CALLS)],
            rounds=500,
        )
    )
    print(f"\n{len(text)} characters: reward {ours:.2f} µs, one rfind {floor:.2f} µs, verl's gsm8k {theirs:.2f} µs")
    assert ours < 50 * floor
