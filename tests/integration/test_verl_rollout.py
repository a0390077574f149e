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

from gream_ext.corpus.prompts import direct_messages, history_text, reason_messages
from gream_ext.errors import GreamError
from gream_ext.identifiers import parse
from gream_ext.items.index import ItemIndex
from gream_ext.plugins.verl import rollout_options
from gream_ext.plugins.verl.cpu.server import Request
from gream_ext.plugins.verl.rollout_options import ANCHOR, OPTION, Member
from tests.support.tiny_reasoner import make_reasoner_workspace

pytestmark = pytest.mark.integration

OPTIONS = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 24, "logprobs": True}


@dataclass
class Case:
    """A reasoner, its item index, prompts of reason mode, and the rollout of a recipe."""

    index: ItemIndex
    prompts: list[list[int]]
    direct: list[list[int]]
    compose: Any
    model: Any
    tokenizer: Any

    def rollout(self, *recipes, weights=None, size=8):
        """A rollout with the model's weights, or with others."""
        from verl.utils.config import omega_conf_to_dataclass
        from verl.workers.config import HFModelConfig

        from gream_ext.plugins.verl.cpu.rollout import TransformersRollout

        config = self.compose(*recipes, **{"actor_rollout_ref.rollout.n": size}).actor_rollout_ref
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

    from gream_ext.inference.engines.transformers import load_model

    workspace = make_reasoner_workspace(tmp_path_factory.mktemp("reasoner") / "w", slot="colliding")
    model, tokenizer = load_model(workspace.model("sft"))
    index = ItemIndex.load(workspace.item_index)

    def written(messages):
        return list(
            tokenizer.apply_chat_template(list(messages), tokenize=True, add_generation_prompt=True, return_dict=False)
        )

    histories = [history_text(index, index.item_ids[start : start + 3]) for start in range(24)]
    prompts = [written(reason_messages(history, system_prompt="short")) for history in histories]
    direct = [written(direct_messages(history)) for history in histories]

    def compose_recipes(*names, **overrides):
        GlobalHydra.instance().clear()
        given = [f"workspace='{workspace.root}'", *(f"{key}={value}" for key, value in overrides.items())]
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            config = compose("ppo_trainer", [f"+gream=[{','.join(('srpo', 'cpu', *names))}]", *given])
        OmegaConf.resolve(config)  # as verl's launcher does
        return config

    yield Case(index, prompts, direct, compose_recipes, model, tokenizer)
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


def group(case, recipes, prompts, size=4, answer=(), **options):
    """The groups of some prompts, as two rollouts of one step make them: one has the even members, one the odd ones."""
    responses = {}
    for part in range(2):
        rollout = case.rollout(*recipes, size=size)
        asked = [(place, number) for place in range(len(prompts)) for number in range(size) if number % 2 == part]
        requests = [
            Request(prompts[place], {**OPTIONS, **options, OPTION: Member(number, True, answer)})
            for place, number in asked
        ]
        responses.update(zip(asked, rollout.generate(requests), strict=True))
    return [[responses[place, number] for number in range(size)] for place in range(len(prompts))]


def named_items(case, responses):
    texts = [case.tokenizer.decode(response.token_ids, skip_special_tokens=True) for response in responses]
    return [case.index.item(parse(text) or ()) for text in texts]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_distinct_members_are_different_items_with_the_models_log_probs(case, temperature):
    """Also where the members of a group are made by two workers."""
    groups = group(case, ["distinct"], case.direct[:4], temperature=temperature)
    for prompt, responses in zip(case.direct, groups, strict=False):
        items = named_items(case, responses)
        assert None not in items
        assert len(set(items)) == 4
        for response in responses:
            expected = reference(case.model, prompt, response.token_ids, temperature)
            assert torch.allclose(torch.tensor(response.log_probs), expected, atol=1e-3)
            assert (response.token_ids[-1], response.stop_reason) == (case.tokenizer.eos_token_id, "completed")
            assert ANCHOR not in response.extra_fields


def test_reasoning_under_distinct_and_requests_of_validation_are_free(case):
    free = [response.token_ids for response in case.sample(case.rollout())]
    rollout = case.rollout("distinct", "anchored")
    assert [response.token_ids for response in case.sample(rollout)] == free
    members = [Request(prompt, {**OPTIONS, OPTION: Member(1, False, (7,))}) for prompt in case.prompts]
    assert [response.token_ids for response in case.rollout("distinct", "anchored").generate(members)] == free


@pytest.mark.parametrize("recipes", [["anchored"], ["anchored", "distinct"], ["anchored", "constrained"]])
def test_an_anchor_of_direct_mode_is_the_true_item(case, recipes):
    """The first member; with `distinct` the last one, and only where no other drew the true item."""
    item = case.index.item_ids[5]
    answer = tuple(case.tokenizer.encode(case.index.text(item), add_special_tokens=False))
    missed = 0
    for prompt, responses in zip(case.direct, group(case, recipes, case.direct, answer=answer), strict=True):
        items = named_items(case, responses)
        anchors = [number for number, response in enumerate(responses) if ANCHOR in response.extra_fields]
        if "distinct" in recipes:
            assert len(set(items)) == 4
            assert items.count(item) == 1
            assert anchors in ([], [3])
            missed += anchors == [3]
        else:
            assert items[0] == item
            assert anchors == [0]
        for number in anchors:
            before, logprob = responses[number].extra_fields[ANCHOR]
            expected = reference(case.model, prompt, responses[number].token_ids, 1.0)
            assert before == 0
            assert logprob == pytest.approx(float(expected[:-1].sum()), abs=1e-2)
    assert missed or "distinct" not in recipes


def test_an_anchor_of_reasoning_mode_has_a_reasoning_of_its_own(case):
    item = case.index.item_ids[5]
    answer = tuple(case.tokenizer.encode(case.index.text(item), add_special_tokens=False))
    free = case.sample(case.rollout(), max_tokens=40)
    rollout = case.rollout("anchored")
    asked = [Request(prompt, {**OPTIONS, "max_tokens": 40, OPTION: Member(0, False, answer)})
             for prompt in case.prompts]  # fmt: skip
    anchors = 0
    for prompt, response, sampled in zip(case.prompts, rollout.generate(asked), free, strict=True):
        expected = reference(case.model, prompt, response.token_ids, 1.0)
        assert torch.allclose(torch.tensor(response.log_probs), expected, atol=1e-3)
        if ANCHOR not in response.extra_fields:
            # It was cut, or never came to an answer.
            continue
        anchors += 1
        before, logprob = response.extra_fields[ANCHOR]
        assert response.token_ids[:before] == sampled.token_ids[:before]
        text = case.tokenizer.decode(response.token_ids[before:], skip_special_tokens=True)
        assert text == f"{case.index.text(item)}</answer>"
        assert logprob == pytest.approx(float(expected[before:-1].sum()), abs=1e-2)
    assert anchors >= 6


@pytest.mark.parametrize(
    ("recipe", "overrides", "complaint"),
    [
        ("constrained", {"actor_rollout_ref.rollout.name": "sglang"}, "constrained works .*, not with sglang"),
        ("distinct", {"actor_rollout_ref.rollout.name": "sglang"}, "distinct works .*, not with sglang"),
        ("anchored", {"actor_rollout_ref.rollout.name": "sglang"}, "anchored works .*, not with sglang"),
        ("constrained", {"algorithm.rollout_correction.rollout_is": "token"}, "rollout_is and .* contradict"),
        ("distinct", {"algorithm.rollout_correction.rollout_rs": "token_k1"}, "rollout_rs and .* contradict"),
        ("constrained", {"actor_rollout_ref.rollout.custom.answers": "nowhere.parquet"}, "nowhere.parquet is missing"),
        ("distinct", {"actor_rollout_ref.rollout.custom.distinct": "nowhere.parquet"}, "nowhere.parquet is missing"),
        ("constrained", {"actor_rollout_ref.rollout.custom.answers": "true"}, "answers must be the path"),
        ("anchored", {"actor_rollout_ref.rollout.custom.anchored": "5"}, "anchored must be true or false, not 5"),
        ("distinct", {"actor_rollout_ref.rollout.top_p": "0.9"}, r"top_p=1\.0 and a temperature above 0"),
        ("distinct", {"actor_rollout_ref.rollout.temperature": "0"}, "a temperature above 0"),
        ("distinct", {"actor_rollout_ref.rollout.n": "99"}, "has 40 items, fewer than .*n=99: lower n"),
        ("anchored", {"actor_rollout_ref.rollout.agent.agent_loop_manager_class": "null"}, "ShortAgentLoopManager"),
    ],
)
def test_refuses_what_would_not_be_consistent(case, recipe, overrides, complaint):
    with pytest.raises(GreamError, match=complaint):
        rollout_options.check(case.compose(recipe, **overrides))


def test_without_the_option_answers_are_free(case):
    config = case.compose()
    assert rollout_options.check(config) == rollout_options.RolloutOptions()
    assert not rollout_options.RolloutOptions.of(config.actor_rollout_ref.rollout).recipes
