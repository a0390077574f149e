"""verl's rollout on a CPU: the training worker generates, with transformers.

`TransformersReplica` is what the trainer talks to, `TransformersRollout` what lives in the worker
and receives its weights. Between them stands a `RolloutServer`.
"""

import os
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import ray
import torch
from transformers import AutoModelForCausalLM
from verl.workers.rollout.base import BaseRollout
from verl.workers.rollout.replica import RolloutReplica

from gream_ext.decoding.language_model import LanguageModel
from gream_ext.decoding.processors import AnswerProcessor, GivenAnswers
from gream_ext.decoding.sampler import TokenSample, sample_tokens
from gream_ext.decoding.trie import ItemTrie
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.verl.cpu.given import Given, GroupAnswers, number_of
from gream_ext.plugins.verl.cpu.server import Request, RolloutServer, Tokens
from gream_ext.plugins.verl.rollout_options import ANCHOR, OPTION, RolloutOptions

OPTIONS = {"temperature", "top_p", "max_tokens", "max_new_tokens", "logprobs"}
WITHOUT_EFFECT: dict[str, tuple[Any, ...]] = {"top_k": (-1, 0, None), "repetition_penalty": (1.0, None)}
"""Sampling parameters that verl always sends, and the values at which they do nothing."""


class TransformersRollout(BaseRollout):
    """A copy of the model in the training worker, whole and in the way of generating."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, *_: Any, **__: Any) -> None:
        super().__init__(config, model_config, device_mesh)
        if self.config.tensor_model_parallel_size * self.config.data_parallel_size != 1:
            raise GreamError("the rollout transformers needs actor_rollout_ref.rollout.tensor_model_parallel_size=1")
        self.model = AutoModelForCausalLM.from_config(self.model_config.hf_config).float().eval()
        options, tokenizer = RolloutOptions.of(self.config), self.model_config.tokenizer
        self.constraints: list[AnswerProcessor] = []
        if options.answers is not None:
            trie = ItemTrie.from_index(ItemIndex.load(options.answers), tokenizer)
            self.constraints = [AnswerProcessor.for_tokenizer(trie, tokenizer)]
        self.group_answers = GroupAnswers(options, tokenizer, self.config.n) if options.about_members else None
        self.global_steps: int | None = None
        self.seen: Counter[tuple[int, ...]] = Counter()
        self.rank = int(os.environ.get("RANK", 0))
        self.thread: threading.Thread | None = None
        self.decoder: LanguageModel | None = None
        """The model as decoding sees it, from the first batch on: what it allows is found out once."""

    async def resume(self, tags: list[str]) -> None:
        return

    async def release(self) -> None:
        return

    async def update_weights(self, weights: Any, wire_format: str = "named_tensors", **kwargs: Any) -> None:
        """Copy the actor's weights; ``GreamError`` when they are not the whole model's."""
        if wire_format != "named_tensors" or kwargs.get("peft_config"):
            raise GreamError("the rollout transformers takes whole weights: set actor_rollout_ref.model.lora.merge")
        own = self.model.state_dict()
        missing = set(own)
        with torch.no_grad():
            for name, tensor in weights:
                if name not in own:
                    raise GreamError(f"the rollout transformers has no weight {name!r}")
                own[name].copy_(tensor)
                missing.discard(name)
        tied = {"lm_head.weight"} if self.model.config.tie_word_embeddings else set()
        if missing - tied:
            raise GreamError(f"the rollout transformers got no weight {sorted(missing - tied)[0]!r}")
        self.global_steps = kwargs.get("global_steps")
        self.seen.clear()
        if self.thread is None:
            self.thread = threading.Thread(target=self._serve, name="gream-rollout", daemon=True)
            self.thread.start()

    def _serve(self) -> None:
        """Generate what the server has to do, until it is gone."""
        server = ray.get_actor(server_name(self.rank))
        try:
            while True:
                requests: list[Request] = ray.get(server.take.remote(os.getpid()))
                try:
                    responses, error = self.generate(requests), None
                except Exception as failure:
                    responses, error = [], f"{type(failure).__name__}: {failure}"
                ray.get(server.give.remote(responses, error))
        except ray.exceptions.RayError:
            return

    def generate(self, requests: Sequence[Request]) -> list[Tokens]:
        """Sample one response for each request; those with equal options go together."""
        responses: list[Tokens | None] = [None] * len(requests)
        options = [tuple(sorted(_checked(request.options).items())) for request in requests]
        for chosen in dict.fromkeys(options):
            rows = [row for row, option in enumerate(options) if option == chosen]
            for row, tokens in zip(rows, self._sample([requests[row] for row in rows], dict(chosen)), strict=True):
                responses[row] = tokens
        return [tokens for tokens in responses if tokens is not None]

    def _sample(self, requests: Sequence[Request], options: dict[str, Any]) -> list[Tokens]:
        if self.decoder is None:
            self.decoder = LanguageModel(self.model)
        tokenizer, temperature = self.model_config.tokenizer, float(options["temperature"])
        given = self._given(requests, temperature)
        answers = GivenAnswers([one.tokens for one in given], [one.markers for one in given])
        samples = sample_tokens(
            self.decoder,
            [request.prompt_ids for request in requests],
            temperature=temperature,
            top_p=float(options["top_p"]),
            max_new_tokens=options.get("max_tokens") or options.get("max_new_tokens") or self.config.response_length,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            seed=[self._seed(request) for request in requests],
            logits_processors=[*self.constraints, *([answers] if any(one.tokens for one in given) else [])],
        )
        return [
            Tokens(
                token_ids=sample.ids,
                log_probs=sample.logprobs,
                stop_reason="completed" if sample.ended else "length",
                extra_fields={"global_steps": self.global_steps, **_anchor(sample, one)},
            )
            for sample, one in zip(samples, given, strict=True)
        ]

    def _given(self, requests: Sequence[Request], temperature: float) -> list[Given]:
        """What the recipes have each rollout say; a request without a member's number, as in validation, is free."""
        given = [Given()] * len(requests)
        rows = [row for row, request in enumerate(requests) if OPTION in request.options]
        if self.group_answers is not None and self.decoder is not None and rows:
            prompts = [tuple(requests[row].prompt_ids) for row in rows]
            members = [requests[row].options[OPTION] for row in rows]
            draw = (self.config.seed, self.global_steps)
            for row, one in zip(
                rows, self.group_answers.of(self.decoder, prompts, members, temperature, draw), strict=True
            ):
                given[row] = one
        return given

    def _seed(self, request: Request) -> int:
        """The same run draws the same samples: a seed for the n-th time that a prompt comes in a step."""
        prompt = tuple(request.prompt_ids)
        self.seen[prompt] += 1
        return number_of((self.config.seed, self.rank, self.global_steps, self.seen[prompt], prompt))


class TransformersReplica(RolloutReplica):
    """One worker and its server."""

    async def launch_servers(self) -> None:
        (worker,) = self.workers
        node = await worker.__ray_call__.remote(_node)
        server = ray.remote(num_cpus=0)(RolloutServer).options(
            name=server_name(self.replica_rank),
            max_concurrency=self.max_concurrency,
            scheduling_strategy=ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False),
        )
        self._server_handle = server.remote(most=int(self.config.max_num_seqs))
        self.servers = [self._server_handle]
        self._server_address = f"gream-rollout-{self.replica_rank}"

    async def sleep(self) -> None:
        return

    wake_up = clear_kv_cache = release_kv_cache = resume_kv_cache = sleep

    async def start_profile(self, **kwargs: Any) -> None:
        return

    async def stop_profile(self) -> None:
        return


def server_name(replica: int) -> str:
    """The Ray actor that serves a replica; the worker of that rank looks it up."""
    return f"gream_rollout_{replica}"


def _node(worker: Any) -> str:
    return str(ray.get_runtime_context().get_node_id())


def _anchor(sample: TokenSample, given: Given) -> dict[str, Any]:
    """The extra field of a rollout that has come to the true answer and to its end."""
    if not given.anchor or not sample.ended or tuple(sample.ids[-len(given.tokens) :]) != given.tokens:
        return {}
    before = len(sample.ids) - len(given.tokens)
    return {ANCHOR: (before, sum(sample.logprobs[before:-1]))}


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    """The sampling parameters that we heed; `GreamError` for one that would change the samples."""
    for name, value in options.items():
        if name not in (*OPTIONS, OPTION) and value not in WITHOUT_EFFECT.get(name, ()):
            raise GreamError(f"the rollout transformers cannot sample with {name}={value!r}")
    return {name: value for name, value in options.items() if name in OPTIONS and value is not None}
