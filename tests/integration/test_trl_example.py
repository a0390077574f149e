"""examples/trl: two steps of TRL's GRPOTrainer with our reward, trie and advantage.

TRL 1 and LLaMA-Factory (TRL 0.24 at most) exclude each other: `examples/trl/README.md` tells how to run this.
"""

import importlib.util
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from gream_ext.advantages import srpo_advantages
from gream_ext.corpus.rl import rl
from gream_ext.corpus.stages import RlSettings
from gream_ext.identifiers import find_all
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.tiny_workspace import make_model_workspace

try:
    TRL = version("trl")
except PackageNotFoundError:
    TRL = "0"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(int(TRL.split(".")[0]) < 1, reason=f"needs TRL 1 in an environment of its own, here is {TRL}"),
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "trl" / "srpo.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trl_srpo", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = sys.modules["trl_srpo"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_model_workspace(tmp_path_factory.mktemp("trl"))
    rl(workspace, RlSettings(prompts=16, reason_share=1.0, valid_users=4, system_prompt="short", window=5))
    return workspace


def test_two_steps(example: ModuleType, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = example.make_trainer(
        workspace, tmp_path, max_steps=2, num_generations=8, per_device_train_batch_size=8, max_completion_length=24,
        learning_rate=1e-3, logging_steps=1, save_strategy="no", use_cpu=True, gradient_checkpointing=False,
    )  # fmt: skip
    rewards: list[list[float]] = []
    trained: list[torch.Tensor] = []
    # The model knows nothing; that somebody is right now and then is made up here.
    drawn = iter([[1.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.5]])

    def made_up(completions: list[Any], **columns: Any) -> list[float]:
        assert max(example.residual_reward(completions, **columns)) <= 1.0, "the real one runs on what came"
        rewards.append(next(drawn))
        return rewards[-1]

    real_loss = trainer.compute_loss

    def loss(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        trained.append(inputs["advantages"].clone())
        return real_loss(model, inputs, *args, **kwargs)

    monkeypatch.setattr(trainer, "reward_funcs", [made_up])
    monkeypatch.setattr(trainer, "compute_loss", loss)
    before = trainer.model.get_input_embeddings().weight.detach().clone()
    trainer.train()
    assert trainer.state.global_step == 2
    assert not torch.equal(before, trainer.model.get_input_embeddings().weight)
    for given, used in zip(rewards, trained, strict=True):
        values = torch.tensor(given)
        wanted, without = (srpo_advantages(values, values == 1.0, [0] * 8, 4, bonus) for bonus in (True, False))
        # TRL shuffles the rollouts before it trains them.
        assert torch.allclose(used.sort().values, wanted.sort().values)
        assert not torch.allclose(wanted, without), "the bonus counts in these groups"
    assert all(torch.isfinite(torch.tensor(one["loss"])) for one in trainer.state.log_history if "loss" in one)


def test_an_answer_is_an_item(example: ModuleType, workspace: Workspace, tmp_path: Path) -> None:
    trainer = example.make_trainer(workspace, tmp_path, use_cpu=True)
    tokenizer, index = trainer.processing_class, ItemIndex.load(workspace.item_index)
    asked = tokenizer(["What next? <answer>"] * 16, return_tensors="pt")
    made = trainer.model.generate(**asked, do_sample=True, max_new_tokens=index.length + 1)
    items = {index.text(item) for item in index.item_ids}
    for text in tokenizer.batch_decode(made[:, asked["input_ids"].shape[1] :]):
        said = text.split("</answer>")[0]
        assert said in items and len(find_all(said)) == 1 and "</answer>" in text


def test_the_reward_of_a_conversation(example: ModuleType) -> None:
    truth = "<|a_1|><|b_2|><|c_3|><|d_4|>"
    answers = [f"<think>so</think><answer>{truth}</answer>", "<answer><|a_1|><|b_0|><|c_3|><|d_4|></answer>", "no"]
    said = [[{"role": "assistant", "content": answer}] for answer in answers]
    assert example.residual_reward(said, [truth] * 3, ["reason"] * 3) == [1.0, 0.5, 0.0]
