"""Our agent loop worker next to verl's: the same rollout with the same reward, at a fraction of the work."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("verl")

from omegaconf import OmegaConf
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

from gream_ext.plugins.verl import agent_loop
from gream_ext.plugins.verl.rollout_options import ANCHOR, OPTION, Member, RolloutOptions

pytestmark = pytest.mark.integration

TARGET = "<|a_1|><|b_2|>"


class Tokenizer:
    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join({1: "<|a_1|>", 2: "<|b_2|>", 3: "<|b_3|>", 9: ""}[token] for token in ids)


def config(manager="naive", enable=False, path="pkg://gream_ext.rewards"):
    return OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {"path": path, "name": "compute_score", "reward_kwargs": {"beta": 1.0}},
                "reward_manager": {"source": "register", "name": manager},
                "reward_model": {"enable": enable},
            }
        }
    )


def rollout(response, **fields):
    """What verl's single-turn loop makes; it always hands extra fields over, which 0.9.0 needs later."""
    return AgentLoopOutput(
        prompt_ids=[5],
        response_ids=response,
        response_mask=[1] * len(response),
        metrics=AgentLoopMetrics(),
        extra_fields={},
        **fields,
    )


def scored(response, **options):
    worker = object.__new__(agent_loop.ShortAgentLoopWorker)
    worker.score = agent_loop.reward_function(config(**options))
    worker.tokenizer = Tokenizer()
    worker.reward_loop_worker_handles = None
    output = rollout(response)
    row = {
        "data_source": "gream",
        "reward_model": {"style": "rule", "ground_truth": TARGET},
        "extra_info": {"mode": "direct", "index": 3},
        "raw_prompt": np.array([{"role": "user", "content": "?"}], dtype=object),
    }
    asyncio.run(worker._compute_score([output], row))
    return output


def test_scores_in_place():
    output = scored([1, 3, 9])
    assert output.reward_score == 0.5
    assert output.extra_fields["reward_extra_info"]["matched_levels"] == 1
    assert output.as_dict()["rm_scores"].tolist() == [0.0, 0.0, 0.5]
    assert scored([1, 2, 9]).extra_fields["reward_extra_info"]["acc"] == 1.0


@pytest.mark.parametrize("options", [{"manager": "dapo"}, {"enable": True}, {"path": None}])
def test_leaves_other_rewards_to_verl(options):
    assert agent_loop.reward_function(config(**options)) is None
    assert scored([1, 2], **options).reward_score is None


def worker_of(custom, made):
    """A worker whose single-turn loop notes what it is asked and gives ``made`` back."""
    worker = object.__new__(agent_loop.ShortAgentLoopWorker)
    worker.config = OmegaConf.create({"actor_rollout_ref": {"rollout": {"custom": custom}}})
    worker.options = RolloutOptions.of(worker.config.actor_rollout_ref.rollout)
    worker.tokenizer = SimpleNamespace(encode=lambda text, add_special_tokens: {TARGET: [1, 2]}[text])
    asked = []

    async def run(sampling_params, **_):
        asked.append(sampling_params)
        return made

    async def done(output, validate, **_):
        return output

    worker.single_turn, worker._agent_loop_postprocess = SimpleNamespace(run=run), done
    return worker, asked


def run_one(worker, validate=False, mode="reason"):
    row = {"session_id": 2, "reward_model": {"ground_truth": TARGET}, "extra_info": {"mode": mode}}
    return asyncio.run(
        worker._run_agent_loop(
            {"temperature": 1.0}, {"validate": validate}, agent_name=agent_loop.SINGLE_TURN, trace=False, **row
        )
    )


def test_members_are_told_what_they_are_in_training_alone():
    worker, asked = worker_of({"anchored": True}, rollout([1, 2, 9]))
    run_one(worker)
    run_one(worker, mode="direct")
    run_one(worker, validate=True)
    assert asked[0] == {"temperature": 1.0, OPTION: Member(2, False, (1, 2))}
    assert asked[1][OPTION] == Member(2, True, (1, 2))
    assert asked[2] == {"temperature": 1.0}
    worker, asked = worker_of(None, rollout([1, 2, 9]))
    run_one(worker)
    assert asked == [{"temperature": 1.0}]
    # Without anchors nobody is told the answer.
    worker, asked = worker_of({"distinct": "item_index.parquet"}, rollout([1, 2, 9]))
    run_one(worker, mode="direct")
    assert asked[0][OPTION] == Member(2, True)


def test_of_an_anchor_the_answer_alone_is_trained():
    made = rollout([5, 5, 1, 2, 9])
    made.extra_fields[ANCHOR] = (2, -1.5)
    worker, _ = worker_of({"anchored": True}, made)
    assert run_one(worker).response_mask == [0, 0, 1, 1, 0]


def test_a_reward_that_was_computed_already_stays(monkeypatch):
    worker = object.__new__(agent_loop.ShortAgentLoopWorker)
    worker.score = lambda **_: pytest.fail("scored twice")
    worker.reward_loop_worker_handles = None
    output = rollout([1], reward_score=0.25)
    asyncio.run(worker._compute_score([output], {}))
    assert output.reward_score == 0.25
    assert torch.equal(output.as_dict()["rm_scores"], torch.tensor([0.25]))
