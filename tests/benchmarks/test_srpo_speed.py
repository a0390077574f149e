"""How fast the advantage and the reward are, beside verl's own: ``pytest tests/benchmarks -k srpo -s``.

The same for all arms: they take turns, so that a busy machine slows each of them; before a call that is timed comes
one of the same arm that is not, so that none pays for the caches that another has filled; and Python's collector
rests meanwhile, as with timeit, so that none pays for another's garbage. Told are the shortest time and the median.
"""

import gc
import random
import statistics
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


class Times(list):
    """Milliseconds of one arm."""

    @property
    def median(self):
        return statistics.median(self)

    def __str__(self):
        return f"{min(self):.4g} ms (median {self.median:.4g})"


def in_turns(*functions, rounds=60):
    """The `Times` of each."""
    times = [Times() for _ in functions]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for found, function in zip(times, functions, strict=True):
                function()
                started = time.perf_counter()
                function()
                found.append(1000 * (time.perf_counter() - started))
    finally:
        gc.enable()
    return times


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
    ours, theirs = in_turns(*calls(TOKENS, "srpo", "grpo_vectorized"))
    print(f"\n{ROLLOUTS} rollouts of {TOKENS} tokens: srpo {ours}, verl's grpo_vectorized {theirs}")
    assert min(ours) < 1.2 * min(theirs)


@pytest.mark.parametrize(("loop", "times"), [("grpo", 20), ("grpo_passk", 12)])
def test_srpo_advantage_beside_loops(loop, times):
    """Without that: one token a rollout."""
    ours, theirs = in_turns(*calls(1, "srpo", loop), rounds=200)
    ratios = f"{min(theirs) / min(ours):.1f} times (median {theirs.median / ours.median:.1f})"
    print(f"\n{ROLLOUTS} rollouts: srpo {ours}, verl's {loop} {theirs}, {ratios}")
    assert min(ours) * times < min(theirs)


def test_srpo_reward():
    """A response of 2 kB, beside looking for one string in it and beside verl's reward for GSM8K."""
    target = "<|a_1|><|b_2|><|c_3|><|d_4|><|e_5|>"
    text = f"<think>{'the user likes drama. ' * 88}</think> so <answer>{target}</answer>"
    # Turns of a fraction of a millisecond: on a busy machine the shortest of many was not interrupted.
    ours, floor, theirs = (
        1000 * min(times) / CALLS
        for times in in_turns(
            lambda: [compute_score("gream", text, target, {"mode": "reason"}) for _ in range(CALLS)],
            lambda: [text.rfind("<nowhere>") for _ in range(CALLS)],
            lambda: [gsm8k.compute_score(text, "42") for _ in range(CALLS)],
            rounds=500,
        )
    )
    print(f"\n{len(text)} characters: reward {ours:.2f} µs, one rfind {floor:.2f} µs, verl's gsm8k {theirs:.2f} µs")
    assert ours < 50 * floor
