"""``algorithm.adv_estimator=srpo``: eqs 15–21 as an advantage estimator of Verl.

Its parameters stand under ``algorithm.srpo``: ``k`` (4), ``success_threshold`` (1.0), ``bonus`` (true) and, for the
recipe ``anchored``, ``anchored`` (false) and ``anchor_weight`` (null), see `gream_ext.advantages.srpo_advantages`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from gream_ext.advantages import srpo_advantages
from gream_ext.errors import GreamError
from gream_ext.plugins.demand import demand, is_number, is_whole, only

OPTIONS = {"k": 4, "success_threshold": 1.0, "bonus": True, "anchored": False, "anchor_weight": None}


def options(algorithm: Any) -> dict[str, Any]:
    """The values of ``algorithm.srpo``, checked; `GreamError` names a wrong key or value."""
    algorithm = algorithm or {}
    given = algorithm.get("srpo") or {}
    demand("algorithm.srpo", given, isinstance(given, Mapping), f"some of {', '.join(OPTIONS)}")
    only("algorithm.srpo", given, OPTIONS)
    values = {**OPTIONS, **given}
    k, threshold, bonus, anchored, weight = (values[name] for name in OPTIONS)
    demand("algorithm.srpo.k", k, is_whole(k) and k >= 1, "a whole number from 1 on")
    demand("algorithm.srpo.success_threshold", threshold, is_number(threshold) and 0 < threshold <= 1,
           "above 0 and at most 1")  # fmt: skip
    for name, value in (("bonus", bonus), ("anchored", anchored)):
        demand(f"algorithm.srpo.{name}", value, isinstance(value, bool), "true or false")
    demand("algorithm.srpo.anchor_weight", weight, weight is None or is_number(weight), "a number, 0 or more, or null")
    if algorithm.get("use_kl_in_reward"):
        raise GreamError("srpo reads from the reward who is exactly right: set algorithm.use_kl_in_reward=false")
    if not algorithm.get("norm_adv_by_std_in_grpo", True):
        raise GreamError("srpo divides by the group's deviation (eq. 17): set algorithm.norm_adv_by_std_in_grpo=true")
    return values


def srpo(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    index: np.ndarray,
    config: Any = None,
    **_: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The advantage of each token: A^final of eq. 21, the same for all tokens of a rollout.

    Args:
        token_level_rewards: float [rollouts, tokens]; their sum is r^rs.
        response_mask: [rollouts, tokens], 1 on the tokens of the response.
        index: the group of each rollout [rollouts].
        config: Verl's ``algorithm`` node.

    Returns:
        Advantages and returns, the same tensor, float [rollouts, tokens].
    """
    chosen = options(config)
    with torch.no_grad():
        rewards = token_level_rewards.sum(dim=-1)
        correct = rewards >= chosen["success_threshold"]
        anchors = _anchors(token_level_rewards, response_mask) if chosen["anchored"] else None
        advantages = srpo_advantages(
            rewards, correct, index, chosen["k"], chosen["bonus"], anchors, chosen["anchor_weight"]
        )
        # A product of floats and integers would turn the mask into floats and then make one more tensor for the result.
        advantages = response_mask.to(advantages.dtype, copy=True).mul_(advantages.unsqueeze(-1))
    return advantages, advantages


def _anchors(rewards: torch.Tensor, response_mask: torch.Tensor) -> torch.Tensor:
    """bool [rollouts]: those whose reward stands on a token that is not trained.

    The last token of an anchor is left out of its mask (`gream_ext.plugins.verl.agent_loop`), and Verl puts the reward
    there: of a rollout it hands an estimator nothing else.
    """
    return (rewards * (response_mask == 0)).sum(dim=-1) > 0


def register() -> None:
    from verl.trainer.ppo.core_algos import register_adv_est

    register_adv_est("srpo")(srpo)
