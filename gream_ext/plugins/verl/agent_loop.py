"""verl's agent loops with less around each rollout, for machines where that is half of the time.

verl makes an agent loop anew for every rollout, and sends each response to another process to be
scored. For questions with one answer, scored by a function, neither is needed: this worker makes
one loop and scores in place. For everything else it is verl's own.
``actor_rollout_ref.rollout.agent.agent_loop_manager_class`` names the manager.
"""

import inspect
from collections.abc import Callable
from typing import Any

import hydra
import ray
from verl.experimental.agent_loop import agent_loop
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from gream_ext.plugins.verl import internals
from gream_ext.plugins.verl.rollout_options import ANCHOR, OPTION, Member, RolloutOptions, anchor_mask

SINGLE_TURN = "single_turn_agent"


class ShortAgentLoopWorker(AgentLoopWorkerTQ.__ray_actor_class__):  # type: ignore[name-defined]
    """verl's worker, with one loop for all rollouts and the reward in this process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        internals.check("agent loop")
        super().__init__(*args, **kwargs)
        self.single_turn: Any = None
        self.options = RolloutOptions.of(self.config.actor_rollout_ref.rollout)
        self.score = reward_function(self.config)

    async def _run_agent_loop(
        self, sampling_params: dict, trajectory: dict, *, agent_name: str, trace: bool = True, **kwargs: Any
    ) -> Any:
        if agent_name != SINGLE_TURN or trace:
            return await super()._run_agent_loop(
                sampling_params, trajectory, agent_name=agent_name, trace=trace, **kwargs
            )
        if self.single_turn is None:
            self.single_turn = self._single_turn_loop()
        if self.options.about_members and not trajectory["validate"]:
            sampling_params = {**sampling_params, OPTION: self._member(kwargs)}
        output = await self.single_turn.run(sampling_params, **kwargs)
        if anchor := output.extra_fields.get(ANCHOR):
            output.response_mask = anchor_mask(anchor[0], len(output.response_ids))
        return await self._agent_loop_postprocess(output, trajectory["validate"], **kwargs)

    def _member(self, row: dict) -> Member:
        """Which member of its group this rollout is, and what its group may be told."""
        answer: list[int] = []
        if self.options.anchored:
            answer = self.tokenizer.encode(row["reward_model"]["ground_truth"], add_special_tokens=False)
        direct = (row.get("extra_info") or {}).get("mode") == "direct"
        return Member(row["session_id"], direct, tuple(answer))

    def _single_turn_loop(self) -> Any:
        # verl 0.9.1 chooses by it how messages become tokens; 0.9.0 does not ask.
        takes = inspect.signature(agent_loop.AgentLoopBase.__init__).parameters
        model_type = {"hf_model_type": self.hf_model_type} if "hf_model_type" in takes else {}
        return hydra.utils.instantiate(
            config=agent_loop._agent_loop_registry[SINGLE_TURN],
            trainer_config=agent_loop.DictConfigWrap(config=self.config),
            server_manager=self.llm_client,
            tokenizer=self.tokenizer,
            processor=self.processor,
            dataset_cls=self.dataset_cls,
            data_config=agent_loop.DictConfigWrap(self.config.data),
            tools=agent_loop.ToolListWrap(self.tools),
            **model_type,
        )

    async def _compute_score(self, outputs: list, kwargs: dict) -> None:
        """As verl's reward manager ``naive`` does it: the text without special tokens, the row's own fields."""
        final = outputs[-1]
        if self.score is not None and final.reward_score is None:
            result = self.score(
                data_source=kwargs["data_source"],
                solution_str=self.tokenizer.decode(final.response_ids, skip_special_tokens=True),
                ground_truth=kwargs["reward_model"]["ground_truth"],
                extra_info=dict(kwargs.get("extra_info") or {}),
            )
            result = dict(result) if isinstance(result, dict) else {"score": result, "acc": result}
            final.reward_score = result["score"]
            final.extra_fields["reward_extra_info"] = result
        await super()._compute_score(outputs, kwargs)


class ShortAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager, with our worker."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(ShortAgentLoopWorker)


def reward_function(config: Any) -> Callable[..., Any] | None:
    """The recipe's reward, where it is a plain function under verl's reward manager ``naive``; else None."""
    manager = config.reward.reward_manager
    if config.reward.reward_model.enable or (manager.source, manager.name) != ("register", "naive"):
        return None
    score = get_custom_reward_fn(config)
    # verl wraps the function in a partial one, whose own function says whether it is a coroutine.
    return None if score is None or inspect.iscoroutinefunction(getattr(score, "func", score)) else score
