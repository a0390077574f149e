"""Eq. 22's mean, in Verl's own loss: over what is there, whatever a batch is filled up with."""

import pytest
import torch

pytest.importorskip("verl")

from hydra import compose, initialize_config_module
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.utils.losses import ppo_loss

from gream_ext.plugins.verl.filter import over_what_is_there

pytestmark = pytest.mark.integration

LENGTHS = (3, 5, 2)
"""Tokens of the rollouts that are there; three rows more fill the batch up, as Verl's do: one token, masked."""
ROWS = [*LENGTHS, 1, 1, 1]


@pytest.fixture(scope="module")
def actor():
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", ["+gream=srpo"])
    return omega_conf_to_dataclass(config.actor_rollout_ref.actor)


def nested(rows):
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def gradient(actor, divisor):
    """Of Verl's loss of six rows, three of which are rollouts, in the log-probs of their tokens."""
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(4, length, generator=generator) for length in ROWS]
    there = [int(row < len(LENGTHS)) for row in range(len(ROWS))]
    # The model's output has a token of the prompt first, and is shifted by one.
    log_probs = [torch.cat([draw[0], torch.zeros(1)]).requires_grad_() for draw in draws]
    data = TensorDict(
        {
            "prompts": nested(torch.zeros(1) for _ in ROWS),
            "responses": nested(torch.zeros(length) for length in ROWS),
            "response_mask": nested(torch.full((length,), mask) for length, mask in zip(ROWS, there, strict=True)),
            "old_log_probs": nested(draw[0] + 0.05 * draw[1] for draw in draws),
            "ref_log_prob": nested(draw[0] + 0.5 * draw[2] for draw in draws),
            "advantages": nested(draw[3] * mask for draw, mask in zip(draws, there, strict=True)),
        },
        batch_size=len(ROWS),
    )
    numbers = {"dp_size": 1, "batch_num_tokens": sum(LENGTHS), "global_batch_size": divisor}
    for name, value in numbers.items():
        data.set_non_tensor(name, value)
    loss, _ = ppo_loss(actor, {"log_probs": nested(log_probs)}, data)
    loss.backward()
    return [tokens.grad[:-1] for tokens in log_probs], draws


def test_the_mean_of_equation_22(actor):
    tags = [{"is_padding": row >= len(LENGTHS)} for row in range(len(ROWS))]
    batch = KVBatchMeta(keys=list("abcdef"), tags=tags, extra_info={"global_batch_size": len(ROWS)})
    divisor = over_what_is_there(lambda batch: batch.extra_info["global_batch_size"])(batch)
    rescaled, draws = gradient(actor, divisor)
    as_verl, _ = gradient(actor, len(ROWS))
    for row, length in enumerate(LENGTHS):
        # By hand: the mean over rollouts of the mean over tokens of −min(ratio·A, clipped) + 0.001·(e^d − d − 1).
        log_prob = draws[row][0].clone().requires_grad_()
        ratio = (log_prob - (draws[row][0] + 0.05 * draws[row][1])).exp()
        surrogate = torch.min(ratio * draws[row][3], ratio.clamp(0.8, 1.2) * draws[row][3])
        apart = draws[row][0] + 0.5 * draws[row][2] - log_prob
        kl = apart.exp() - apart - 1
        ((-surrogate + 0.001 * kl).sum() / length / len(LENGTHS)).backward()
        assert torch.allclose(rescaled[row], log_prob.grad, atol=1e-7)
        assert torch.allclose(as_verl[row] * len(ROWS) / len(LENGTHS), rescaled[row], atol=1e-7)
    assert not any(tokens.any() for tokens in rescaled[len(LENGTHS) :])
