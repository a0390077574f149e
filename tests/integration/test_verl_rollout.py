"""The CPU rollout in verl's own classes: weights reach it, log-probs are the model's, answers can be real items."""

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("verl")

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from gream_ext.corpus.prompts import history_text, reason_messages
from gream_ext.errors import GreamError
from gream_ext.identifiers import parse
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.verl import answers
from gream_ext.plugins.verl.cpu.server import Request
from tests.support.tiny_reasoner import make_reasoner_workspace

pytestmark = pytest.mark.integration

OPTIONS = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 24, "logprobs": True}


@dataclass
class Case:
    """A reasoner, its item index, prompts of reason mode, and the rollout of a recipe."""

    index: ItemIndex
    prompts: list[list[int]]
    compose: Any
    model: Any
    tokenizer: Any

    def rollout(self, *recipes, weights=None):
        """A rollout with the model's weights, or with others."""
        from verl.utils.config import omega_conf_to_dataclass
        from verl.workers.config import HFModelConfig

        from gream_ext.plugins.verl.cpu.rollout import TransformersRollout

        config = self.compose(*recipes).actor_rollout_ref
        rollout = TransformersRollout(
            omega_conf_to_dataclass(config.rollout),
            omega_conf_to_dataclass(config.model, dataclass_type=HFModelConfig),
            None,
        )
        rollout.thread = threading.current_thread()  # no server here: `generate` is called directly
        self.send(rollout, weights or self.model.state_dict())
        return rollout

    @staticmethod
    def send(rollout, weights):
        asyncio.run(rollout.update_weights(iter(weights.items()), global_steps=1))

    def sample(self, rollout, **options):
        return rollout.generate([Request(prompt, {**OPTIONS, **options}) for prompt in self.prompts])


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    import verl

    from gream_ext.inference.loading import load_model

    workspace = make_reasoner_workspace(tmp_path_factory.mktemp("reasoner") / "w", slot="colliding")
    model, tokenizer = load_model(workspace.model("sft"))
    index = ItemIndex.load(workspace.item_index)
    prompts = [
        list(
            tokenizer.apply_chat_template(
                list(reason_messages(history_text(index, index.item_ids[start : start + 3]), system_prompt="short")),
                tokenize=True,
                add_generation_prompt=True,
                return_dict=False,
            )
        )
        for start in range(24)
    ]

    def compose_recipes(*names, **overrides):
        GlobalHydra.instance().clear()
        given = [f"workspace='{workspace.root}'", *(f"{key}={value}" for key, value in overrides.items())]
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            config = compose("ppo_trainer", [f"+gream=[{','.join(('srpo', 'cpu', *names))}]", *given])
        OmegaConf.resolve(config)  # as verl's launcher does
        return config

    yield Case(index, prompts, compose_recipes, model, tokenizer)
    GlobalHydra.instance().clear()


def reference(model, prompt, response, temperature):
    """What verl's actor computes: log-softmax of the logits over the temperature, at the tokens of the response."""
    ids = torch.tensor([[*prompt, *response]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0]


@pytest.mark.parametrize("recipes", [(), ("constrained",)])
def test_log_probs_are_the_models(case, recipes):
    """Within 1e-3 of what the actor gives the same tokens, constrained or not: old and new policy start as one."""
    for temperature in (1.0, 0.5):
        for prompt, response in zip(
            case.prompts, case.sample(case.rollout(*recipes), temperature=temperature), strict=True
        ):
            expected = reference(case.model, prompt, response.token_ids, temperature)
            assert torch.allclose(torch.tensor(response.log_probs), expected, atol=1e-3)


def test_constrained_answers_are_real_items(case):
    """Prompts that end in ``<answer>``, and warm enough that free answers are nonsense; constrained, none is."""
    begun = [*case.tokenizer.encode("<think>\nso\n</think>\n<answer>", add_special_tokens=False)]
    prompts = [[*prompt, *begun] for prompt in case.prompts]
    found = {}
    for recipes in ((), ("constrained",)):
        rollout = case.rollout(*recipes)
        responses = rollout.generate([Request(prompt, {**OPTIONS, "temperature": 3.0}) for prompt in prompts])
        texts = [case.tokenizer.decode(response.token_ids, skip_special_tokens=True) for response in responses]
        found[recipes] = [case.index.item(parse(text.partition("</answer>")[0]) or ()) for text in texts]
        for prompt, response in zip(prompts, responses, strict=True):
            expected = reference(case.model, prompt, response.token_ids, 3.0)
            assert torch.allclose(torch.tensor(response.log_probs), expected, atol=1e-3)
    assert None in found[()]
    assert None not in found["constrained",]


def test_what_the_model_allows_is_found_out_once(case, monkeypatch):
    from gream_ext.decoding import language_model

    asked = []
    monkeypatch.setattr(language_model, "probe", lambda model: asked.append(model) or language_model.Traits())
    rollout = case.rollout()
    for _ in range(2):
        case.sample(rollout, max_tokens=1)
    assert len(asked) == 1


def test_weights_reach_the_rollout(case):
    """Equal weights, equal responses; one weight that is another, another response; and back again."""
    rollout = case.rollout()
    first = [response.token_ids for response in case.sample(rollout, temperature=0.0)]
    changed = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    changed["model.norm.weight"] *= -1  # the likeliest token becomes the least likely
    case.send(rollout, changed)
    assert [response.token_ids for response in case.sample(rollout, temperature=0.0)] != first
    case.send(rollout, case.model.state_dict())
    assert [response.token_ids for response in case.sample(rollout, temperature=0.0)] == first


def test_incomplete_weights_are_refused(case):
    rollout = case.rollout()
    weights = dict(case.model.state_dict())
    weights.pop(next(name for name in weights if name.endswith("norm.weight")))
    with pytest.raises(GreamError, match="got no weight"):
        case.send(rollout, weights)
    with pytest.raises(GreamError, match="has no weight 'other'"):
        case.send(rollout, {"other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"actor_rollout_ref.rollout.name": "sglang"}, "not with sglang"),
        ({"algorithm.rollout_correction.rollout_is": "token"}, "rollout_is and .* contradict"),
        ({"actor_rollout_ref.rollout.custom.answers": "nowhere.parquet"}, "nowhere.parquet is missing"),
        ({"actor_rollout_ref.rollout.custom.answers": "true"}, "must be the path"),
    ],
)
def test_refuses_what_would_not_be_consistent(case, overrides, complaint):
    config = case.compose("constrained", **overrides)
    with pytest.raises(GreamError, match=complaint):
        answers.check(config.actor_rollout_ref.rollout, config.algorithm.rollout_correction)


def test_without_the_option_answers_are_free(case):
    rollout = case.compose().actor_rollout_ref.rollout
    assert answers.item_index(rollout) is None
    answers.check(rollout, None)
